// What scrolls sideways can be reached with the keyboard.
addEventListener("load", () => {
  for (const part of document.querySelectorAll("pre, pre code, .highlight-ipynb, .jp-OutputArea-output, .md-typeset__scrollwrap, .jp-RenderedText")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  }
  document.querySelectorAll(".jp-mod-noOutputs input, .clipboard-copy-txt").forEach(part => part.setAttribute("aria-label", "code"));
});
