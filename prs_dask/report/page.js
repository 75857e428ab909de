// Draws the figures, and gives their text and lines the colours of the reader's scheme: now, and when it changes.
(() => {
  "use strict";
  const content = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const paint = (models) => {
    const text = color("--soft"), line = color("--line"), grid = color("--grid");
    for (const model of models) {
      const wanted = {
        axis_label_text_color: text,
        major_label_text_color: text,
        axis_line_color: line,
        major_tick_line_color: line,
        grid_line_color: grid,
      };
      for (const [name, value] of Object.entries(wanted)) {
        const property = name in model.properties ? model[name] : null;
        if (property !== null) model[name] = value;
      }
    }
  };

  const draw = async () => {
    await Bokeh.embed.embed_items(content.documents, content.items);
    const roots = Bokeh.documents.flatMap((one) => one.roots());
    const paintAll = () => roots.forEach((root) => paint(root.references()));
    paintAll();
    dark.addEventListener("change", paintAll);
    document.documentElement.dataset.drawn = "yes";
  };
  draw();
})();
