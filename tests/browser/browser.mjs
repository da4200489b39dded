// Launches Debian's Chromium, or the one in the environment variable CHROMIUM.
import { chromium } from "playwright-core";

/** How long tests wait for what must happen, in milliseconds: a busy machine stands still for seconds. */
export const PATIENCE = 60_000;

export const launch = (args = []) =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Containers have no user namespaces and little shared memory. The tests connect to the server under test only.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--disable-component-update", ...args],
  });
