import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // In development the stream comes through Vite, so that it is of the page's own origin.
  server: { proxy: { "/stream": "http://127.0.0.1:8000" } },
  test: { environment: "jsdom", testTimeout: 300_000, hookTimeout: 60_000 },
});
