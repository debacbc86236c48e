// How text of a model enters the document: by textContent alone, and a hidden text not at all before it is asked for;
// other letters are shown in its place.
"use strict";
const modelText = (() => {
  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const veil = (text) => text.replace(/\S/gu, (_, at) => "aeonrsuc"[(at * 7) % 8]);

  // `parts` are strings and elements that make up the text where it is visible
  function paragraph(className, text, isVisible, parts = [text]) {
    const made = element("p", `text ${className}`);
    if (text.trim() === "") {
      made.append(element("span", "empty", "empty"));
    } else if (isVisible) {
      made.append(...parts);
    } else {
      const cover = element("span", "veil", veil(text));
      cover.setAttribute("aria-hidden", "true");
      made.append(cover, element("span", "sr", "hidden text"));
    }
    return made;
  }

  return { element, paragraph };
})();
