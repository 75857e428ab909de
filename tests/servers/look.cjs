// Opens a page in headless Chromium, once for each look, and prints what was seen as JSON. See browser.py.
const told = JSON.parse(process.argv[2]);
const { chromium } = require(told.playwright);

const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

const seen = () => ({
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  drawings: [
    [...document.querySelectorAll(".drawing")].filter((one) => one.querySelector("*")?.shadowRoot).length,
    document.querySelectorAll(".drawing").length,
  ],
  ground: getComputedStyle(document.body).backgroundColor,
  text: getComputedStyle(document.body).color,
  words: document.body.innerText,
  marks: [
    ...[...document.querySelectorAll("img, iframe, object, embed, form, base")].map((one) => one.tagName),
    ...(window.harmed ? ["harmed"] : []),
  ],
});

const look = async (browser, { width, scheme, screenshot }) => {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme });
  const page = await context.newPage();
  const errors = [], requests = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) errors.push(message.text());
  });
  page.on("request", (request) => {
    if (request.url() !== told.page) requests.push(request.url().slice(0, 200));
  });
  await page.goto(told.page);
  await page.waitForFunction("document.documentElement.dataset.drawn === 'yes'", null, { timeout: 90000 })
    .catch((error) => errors.push(`figures were not drawn: ${error}`));
  await page.waitForTimeout(300);
  const found = await page.evaluate(seen);
  // A window as high as the page: a screenshot beyond the window makes it another size for a moment.
  const height = await page.evaluate("document.documentElement.scrollHeight");
  await page.setViewportSize({ width, height: Math.min(height, 12000) });
  await page.waitForTimeout(500);
  await page.screenshot({ path: screenshot });
  await context.close();
  return { width, scheme, errors, requests, screenshot, ...found };
};

(async () => {
  const browser = await chromium.launch({ executablePath: told.program, args: ARGUMENTS });
  const looks = [];
  for (const one of told.looks) looks.push(await look(browser, one));
  await browser.close();
  process.stdout.write(JSON.stringify(looks));
})().catch((error) => {
  process.stderr.write(`${error.stack || error}\n`);
  process.exit(1);
});
