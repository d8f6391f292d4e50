"use strict";
{ // the lines of the statement under the pointer or the focus
  const graph = document.querySelector("svg.graph");
  const light = event => {
    const node = event.target.closest?.(".node"), id = node && node.id.slice("node-".length);
    for (const line of graph.querySelectorAll("path")) line.classList.toggle("lit", line.dataset.ends.split(" ").includes(id));
  };
  for (const kind of graph ? ["mouseover", "mouseleave", "focusin", "focusout"] : []) graph.addEventListener(kind, light);
}
