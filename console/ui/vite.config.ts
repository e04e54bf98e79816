import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The page runs under a policy that allows files of its own origin alone, so
// nothing is inlined: no data: URLs, no polyfill for preloads.
export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    emptyOutDir: false, // dist/.gitignore keeps the directory; scripts/clean.mjs empties it
    reportCompressedSize: false,
  },
  server: { proxy: { "/api": "http://127.0.0.1:7380", "/readyz": "http://127.0.0.1:7380" } },
});
