package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/mod/modfile"
)

// TestPrograms builds both programs for this machine, as a release does, and checks the versions
// that they print, and their SBOMs.
func TestPrograms(t *testing.T) {
	const version = "1.2.3-rc.4"
	compiler, err := goVersion("../..")
	if err != nil {
		t.Fatal(err)
	}
	schema := bomSchema(t)
	for _, p := range programs {
		t.Run(p.binary, func(t *testing.T) {
			binary, err := build(t.Context(), buildOptions{
				root: "../..", dir: t.TempDir(), version: version, compiler: compiler, os: runtime.GOOS, architecture: runtime.GOARCH,
			}, p)
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), binary, "--version").Output()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(out), p.binary+" version "+version+"\n"; got != want {
				t.Errorf("--version prints %q, want %q", got, want)
			}
			digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
			sbom, err := imageSBOM(p, binary, version, runtime.GOARCH, digest, time.Unix(0, 0).UTC())
			if err != nil {
				t.Fatal(err)
			}
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(sbom))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(document); err != nil {
				t.Errorf("not valid CycloneDX 1.6: %v", err)
			}
			checkModules(t, p, sbom)
		})
	}
}

// checkModules compares an SBOM with the modules that Go links, and with go.mod.
func checkModules(t *testing.T, p program, sbom []byte) {
	t.Helper()
	var bom cdx.BOM
	if err := json.Unmarshal(sbom, &bom); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range *bom.Components {
		if c.Type == cdx.ComponentTypeLibrary && c.Name != "std" && c.Name != rootsModule {
			got = append(got, c.Name+" "+c.Version)
		}
		if c.Version == "" || c.Type == cdx.ComponentTypeLibrary && c.Name != "std" && c.Hashes == nil {
			t.Errorf("%s has version %q and hashes %v", c.Name, c.Version, c.Hashes)
		}
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}`, p.pkg)
	list.Dir, list.Env = "../..", append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
	slices.Sort(want)
	want = slices.Compact(want)
	slices.Sort(got)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("modules\n%q\nwant\n%q", got, want)
	}
	raw, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.ParseLax("go.mod", raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range got {
		if !slices.ContainsFunc(mod.Require, func(r *modfile.Require) bool { return r.Mod.Path+" "+r.Mod.Version == module }) {
			t.Errorf("%s is not in go.mod", module)
		}
	}
}

// bomSchema returns CycloneDX's schema, which is part of its library's module.
func bomSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	const base = "http://cyclonedx.org/schema/"
	for url, file := range map[string]string{
		"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		f, err := os.Open(filepath.Join(strings.TrimSpace(string(out)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(base+url, document); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile(base + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
