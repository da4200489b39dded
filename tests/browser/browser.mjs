// The Chromium that the tests use: Debian's, or the one that CHROMIUM names.
import { chromium } from "playwright-core";

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Containers give no user namespaces, and little shared memory; nothing but the server under test is talked to.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
  });
