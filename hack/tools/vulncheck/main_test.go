package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// database is a local one, with one vulnerability of a function of package strings.
func database(t *testing.T, function string) string {
	t.Helper()
	dir := t.TempDir()
	const id, modified = "GO-2026-0001", "2026-01-02T15:04:05Z"
	for name, content := range map[string]string{
		"index/db.json":      fmt.Sprintf(`{"modified":%q}`, modified),
		"index/modules.json": fmt.Sprintf(`[{"path":"stdlib","vulns":[{"id":%q,"modified":%q}]}]`, id, modified),
		"index/vulns.json":   fmt.Sprintf(`[{"id":%q,"modified":%q}]`, id, modified),
		"ID/" + id + ".json": fmt.Sprintf(`{"schema_version":"1.3.1","id":%q,"modified":%q,"published":%q,"summary":"A test","details":"A test",
			"affected":[{"package":{"name":"stdlib","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
			"ecosystem_specific":{"imports":[{"path":"strings","symbols":[%q]}]}}],"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2026-0001"}}`, id, modified, modified, function),
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + filepath.ToSlash(dir)
}

func TestVulncheck(t *testing.T) {
	away := httptest.NewServer(nil)
	away.Close()
	noDatabase := httptest.NewServer(nil)
	defer noDatabase.Close()
	tests := map[string]struct {
		database string
		wantExit int
		want     []string // in the error or in the output
	}{
		"a vulnerability":                  {database: database(t, "ToUpper"), wantExit: exitVulnerable, want: []string{"GO-2026-0001", "main.go", "known vulnerabilities"}},
		"one that is not called":           {database: database(t, "Repeat"), wantExit: 0, want: []string{"vulncheck: testdata/module"}},
		"no server":                        {database: away.URL, wantExit: exitUnreachable, want: []string{away.URL, "nothing was checked", "GOVULNDB"}},
		"a server that has something else": {database: noDatabase.URL, wantExit: exitUnreachable, want: []string{noDatabase.URL, "404", "nothing was checked"}},
		"no local copy":                    {database: "file://" + t.TempDir(), wantExit: exitUnreachable, want: []string{"db.json", "nothing was checked", "GOVULNDB"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := run(t.Context(), tc.database, []string{"testdata/module"}, &out)
			exit := 0
			if err != nil {
				exit = exitCode(err)
				out.WriteString(err.Error())
			}
			if exit != tc.wantExit {
				t.Errorf("exit code %d, want %d\n%s", exit, tc.wantExit, out.String())
			}
			for _, want := range tc.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
		})
	}
}

// TestNothingIsNoSuccess: a check of no module must not look like one without a finding.
func TestNothingIsNoSuccess(t *testing.T) {
	if err := run(t.Context(), database(t, "Repeat"), nil, os.Stderr); err == nil {
		t.Error("no error")
	}
}
