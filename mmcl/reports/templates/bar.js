"use strict";
{ // the section in view, in the bar and in the contents
  const contents = document.querySelector(".contents"), here = document.querySelector(".here");
  const links = contents ? [...contents.querySelectorAll("a")] : [];
  const heads = links.map(link => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  const follow = () => {
    const end = innerHeight + scrollY > document.documentElement.scrollHeight - 4;
    const at = end ? heads.length - 1 : heads.findLastIndex(head => head.getBoundingClientRect().top < 150);
    links.forEach((link, i) => i === at ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
    here.replaceChildren(...(at < 0 ? [] : links[at].cloneNode(true).childNodes));
  };
  if (links.length) {
    const wide = matchMedia("(min-width: 88rem)"), fit = () => { contents.open = wide.matches; };
    const close = () => { if (!wide.matches) contents.open = false; };
    links.forEach(link => link.addEventListener("click", close));
    contents.addEventListener("keydown", event => { if (event.key === "Escape") { close(); contents.firstElementChild.focus(); } });
    document.addEventListener("scroll", follow, { passive: true });
    wide.addEventListener("change", fit);
    fit();
    follow();
  }
  // panels of a wide figure below each other where the page is narrow; the style sheet says where
  for (const figure of document.querySelectorAll("figure[data-panels]:not([data-play])")) {
    const image = figure.querySelector("img"), stack = document.createElement("div");
    stack.className = "stack";
    stack.setAttribute("role", "img");
    stack.setAttribute("aria-label", image.alt);
    for (const [left, top, right, bottom] of JSON.parse(figure.dataset.panels)) {
      const panel = stack.appendChild(document.createElement("div")), w = right - left, h = bottom - top;
      panel.style.background = `url("${image.src}") ${100 * left / (1 - w || 1)}% ${100 * top / (1 - h || 1)}% / ${100 / w}% ${100 / h}%`;
      panel.style.aspectRatio = `${w * image.getAttribute("width")} / ${h * image.getAttribute("height")}`;
      panel.style.maxWidth = `${1.3 * w * image.getAttribute("width")}px`;
    }
    figure.insertBefore(stack, image);
    figure.classList.add("stacked");
  }
  // what scrolls can be scrolled by keyboard
  const reach = () => {
    for (const box of document.querySelectorAll("pre, .display, .scroll, main p, main ul, main ol, figcaption"))
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  };
  addEventListener("resize", reach);
  document.addEventListener("toggle", reach, true);
  reach();
}
