import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The gateway that the development server asks; the built files are served by the gateway itself.
const gateway = process.env["UPM_API"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  // Relative, so that the page works under any path: `<base href>` in index.html says which.
  base: "./",
  plugins: [react()],
  build: {
    target: "es2022",
    // An inlined file would be a data: URL, which the policy of the page does not allow.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { output: { entryFileNames: "assets/[name]-[hash].js" } },
  },
  server: { proxy: { "^/upm\\.": gateway, "/healthz": gateway } },
});
