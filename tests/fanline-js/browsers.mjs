// Debian's Chromium and Firefox. The environment variables CHROMIUM and FIREFOX are the paths of other ones.
import puppeteer from "puppeteer-core";

const BROWSERS = {
  chrome: {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Containers have no user namespaces and little shared memory. The tests connect to the server under test only.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
  },
  firefox: { executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr", args: [] },
};

export const names = Object.keys(BROWSERS);

export const launch = (browser) =>
  puppeteer.launch({ browser, headless: true, timeout: 120_000, protocolTimeout: 120_000, ...BROWSERS[browser] });
