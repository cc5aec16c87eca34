"""Names that the standards define: elements, obsolete elements, event handlers. Data only."""

from __future__ import annotations


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


# HTML Living Standard of 16 September 2026, section "Elements" of the indices (with h1 to h6).
ELEMENTS = _set(
    "a abbr address area article aside audio b base bdi bdo blockquote body br button canvas "
    "caption cite code col colgroup data datalist dd del details dfn dialog div dl dt em embed "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html i "
    "iframe img input ins kbd label legend li link main map mark math menu meta meter nav "
    "noscript object ol optgroup option output p picture pre progress q rp rt ruby s samp "
    "script search section select selectedcontent slot small source span strong style sub "
    "summary sup svg table tbody td template textarea tfoot th thead time title tr track u ul "
    "var video wbr"
)
# The same, 16.2 "Non-conforming features": the elements that are entirely obsolete.
OBSOLETE = _set(
    "acronym applet basefont bgsound big blink center dir font frame frameset isindex keygen "
    "listing marquee menuitem multicol nextid nobr noembed noframes param plaintext rb rtc "
    "spacer strike tt xmp"
)
# The same, 4.13.3: names with a hyphen that are SVG's and MathML's, not custom elements'.
NOT_CUSTOM = _set(
    "annotation-xml color-profile font-face font-face-format font-face-name font-face-src "
    "font-face-uri missing-glyph"
)
# The same, 13.2.4.3: those which the parser opens again after a misnested tag, a copy each time.
FORMATTING = _set("a b big code em font i nobr s small strike strong tt u")
# Event handler content attributes, less their "on": the same, 8.1.8.2; then those of CSS
# Animations and Transitions, Pointer Events, Touch Events, Selection and Fullscreen.
HANDLERS = frozenset(
    "on" + name
    for name in _set(
        "abort afterprint auxclick beforeinput beforematch beforeprint beforetoggle beforeunload "
        "blur cancel canplay canplaythrough change click close command contextlost contextmenu "
        "contextrestored copy cuechange cut dblclick drag dragend dragenter dragleave dragover "
        "dragstart drop durationchange emptied ended error focus formdata hashchange input "
        "invalid keydown keypress keyup languagechange load loadeddata loadedmetadata loadstart "
        "message messageerror mousedown mouseenter mouseleave mousemove mouseout mouseover "
        "mouseup offline online pagehide pagereveal pageshow pageswap paste pause play playing "
        "popstate progress ratechange rejectionhandled reset resize scroll scrollend "
        "securitypolicyviolation seeked seeking select slotchange stalled storage submit suspend "
        "timeupdate toggle unhandledrejection unload volumechange waiting webkitanimationend "
        "webkitanimationiteration webkitanimationstart webkittransitionend wheel "
        "animationcancel animationend animationiteration animationstart transitioncancel "
        "transitionend transitionrun transitionstart gotpointercapture lostpointercapture "
        "pointercancel pointerdown pointerenter pointerleave pointermove pointerout pointerover "
        "pointerup touchcancel touchend touchmove touchstart selectionchange selectstart "
        "fullscreenchange fullscreenerror"
    )
)
# MIME Sniffing Standard, 4.6: the JavaScript MIME types, as a script's type may have them.
JAVASCRIPT = _set(
    "application/ecmascript application/javascript application/x-ecmascript "
    "application/x-javascript text/ecmascript text/javascript text/javascript1.0 "
    "text/javascript1.1 text/javascript1.2 text/javascript1.3 text/javascript1.4 "
    "text/javascript1.5 text/jscript text/livescript text/x-ecmascript text/x-javascript"
)
