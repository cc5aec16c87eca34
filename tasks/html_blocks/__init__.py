r'''The embedded task: pages and fragments composed from a seed, in thirteen families.

A family is a file of `families/`, written in one small grammar:

    # A shopping list, with a price for some.

    markup = """
    <ul id="{id}">
    {for thing in things}<li>{thing}</li>{end}
    {if price}<li><b>{price}</b></li>{end}
    </ul>"""

    checks = """
    ul | 1 | | id | {id}
    ul > li:first-child | 1 | {things.0}
    ul > li | | {things.-1}
    {if price}
    li > b | 1 | {price}
    {end}"""

    [draw]
    theme = "<theme>"
    id = "<word>-<1..30>"
    things = "<2..4 items>"
    paid = "<now|later>"
    price = { by = "paid", now = "<price> euros" }

    [trained]
    order = """Write a ul with the id {id} that holds {quoted things}{if price}, and at last \
      "{price}" in bold (b){end}."""

    [reserved]
    lines = """
    Each line is an li of one ul (id: {id}){if price}, the last one in b too{end}.
    {for thing in things}
    {thing}
    {end}
    {price}"""

[draw]      rules that draw the content, values under names, one after another (draws.py). What
            stands in angle brackets is drawn from words.toml or made of its words (sources.py).
markup      the reference, on any lines: it is laid out in the house style (markup.py)
checks      its assertions, one a line: selector | count | text | attribute | value
[trained]   phrasings of the prompt that training uses, at least four
[reserved]  phrasings that only test rows use, at least two

Markup, checks and phrasings are templates (template.py): what stands in braces is a value, a loop
or a condition. A prompt must say all that the reference holds.

To add a family, write its file and give it a place in FAMILIES of generator.py, where rows are
made. What rules cannot draw is a new source. The family of edits has files of the same sort in
`drafts/`, with changes in place of phrasings (edits.py).
'''
