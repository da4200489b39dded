// The package for npm: its size, its types, and its agreement with the server's version.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { minify } from "terser";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");

test("takes at most 3 KB (3,072 bytes), minified by terser and compressed by gzip -9", async (context) => {
  const { code } = await minify(read("../../src/http/fanline-js/fanline.js"), { module: true });
  const { length } = gzipSync(code, { level: 9 });
  context.diagnostic(`${code.length} bytes minified, ${length} bytes compressed`);
  assert.ok(length <= 3072, `${length} bytes`);
});

test("has types that accept what is right and reject what is wrong", () => {
  const compiler = new URL("node_modules/.bin/tsc", import.meta.url).pathname;
  const { stdout, status } = spawnSync(compiler, ["--project", new URL("tsconfig.json", import.meta.url).pathname], { encoding: "utf8" });
  assert.equal(stdout, "");
  assert.equal(status, 0);
});

test("has the server's version, no dependencies, and the files that it names", () => {
  const description = JSON.parse(read("../../src/http/fanline-js/package.json"));
  const [, version] = read("../../Cargo.toml").match(/^version = "(.*)"$/m);
  assert.equal(description.version, version);
  assert.equal(description.dependencies, undefined);
  const { types, default: code } = description.exports["."];
  for (const path of [types, code, ...description.files]) assert.ok(read(`../../src/http/fanline-js/${path}`).length > 0, path);
});
