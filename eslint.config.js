// Lints our own JavaScript: `tox -e lint-js`.
import js from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import globals from "globals";

export default defineConfig([
  globalIgnores(["kedro_flask_server/web/static/vendor/", "**/.*/", "build/", "docs/_build/"]),
  {
    files: ["**/*.{js,mjs}"],
    plugins: { js },
    extends: ["js/recommended"],
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "eqeqeq": "error",
      "max-lines": ["error", 200],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  {
    // Scripts of pages, and workers; beside the browser's names those that vendored scripts define.
    files: ["kedro_flask_server/web/static/**/*.js"],
    languageOptions: {
      sourceType: "script",
      globals: {
        ...globals.browser,
        ...globals.worker,
        SwaggerUIBundle: "readonly",
        dagre: "readonly",
        htmx: "readonly",
      },
    },
  },
  {
    files: ["*.js", "tools/**"],
    languageOptions: { globals: globals.node },
  },
]);
