(() => {
  // ---- light and dark ------------------------------------------------------------------------------------------
  const page = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = page.dataset.theme ? page.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    page.dataset.theme = dark ? "light" : "dark";
  });

  // ---- pictures, enlarged --------------------------------------------------------------------------------------
  const box = document.getElementById("lightbox");
  const [image, caption] = [box.querySelector("img"), box.querySelector("figcaption")];
  let row = [], place = 0, opener = null;
  const open = (index) => {
    place = (index + row.length) % row.length;
    const source = row[place].querySelector("img");
    image.src = source.src;
    image.alt = source.alt;
    const factor = Math.min((innerWidth - 140) / source.naturalWidth, (innerHeight - 110) / source.naturalHeight);
    image.style.width = `${source.naturalWidth * factor}px`;
    image.style.imageRendering = factor > 3 ? "pixelated" : "auto";
    caption.textContent = source.alt;
    box.hidden = false;
    box.querySelector(".close").focus({ focusVisible: false });
  };
  const close = () => { box.hidden = true; opener?.focus(); };
  document.querySelectorAll(".pictures").forEach((pictures) => {
    const buttons = [...pictures.querySelectorAll("button.picture")];
    buttons.forEach((button, index) => button.addEventListener("click", () => { row = buttons; opener = button; open(index); }));
  });
  box.addEventListener("click", (event) => {
    if (event.target.matches(".next") || event.target === image) open(place + 1);
    else if (event.target.matches(".previous")) open(place - 1);
    else close();
  });
  addEventListener("keydown", (event) => {
    if (box.hidden) return;
    if (event.key === "Escape") close();
    if (event.key === "ArrowRight") open(place + 1);
    if (event.key === "ArrowLeft") open(place - 1);
  });

  // ---- curves tell their values --------------------------------------------------------------------------------
  document.querySelectorAll(".chart").forEach((chart) => {
    const [pixels, xs, ys] = JSON.parse(chart.dataset.points);
    const [svg, output, cursor] = [chart.querySelector("svg"), chart.querySelector("output"), chart.querySelector(".cursor")];
    const last = output.textContent;
    svg.addEventListener("pointermove", (event) => {
      const bounds = svg.getBoundingClientRect();
      const x = ((event.clientX - bounds.left) / bounds.width) * svg.viewBox.baseVal.width;
      let best = 0;
      pixels.forEach((pixel, index) => { if (Math.abs(pixel - x) < Math.abs(pixels[best] - x)) best = index; });
      cursor.setAttribute("x1", pixels[best]);
      cursor.setAttribute("x2", pixels[best]);
      chart.classList.add("reading");
      output.textContent = `${ys[best]} ${chart.dataset.unit} at ${xs[best]}`;
    });
    svg.addEventListener("pointerleave", () => { chart.classList.remove("reading"); output.textContent = last; });
  });

  // ---- copy the command ----------------------------------------------------------------------------------------
  document.querySelectorAll(".command button").forEach((button) => button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
    }
  }));
})();
