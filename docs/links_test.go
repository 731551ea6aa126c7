package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	makeTarget = regexp.MustCompile(`(?:^|[\s\x60(])make ([a-z][a-z0-9-]*)`)
	ruleOf     = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	codeBlock  = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$|`([^`\n]+)`")
)

// pages returns the text of all Markdown documents of the repository, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && path != ".." && (strings.HasPrefix(name, ".") || name == "bin" || name == "dist" || name == "node_modules") {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".md" && path != "../hack/chart/readme.md" { // readme.md is a template
			raw, err := os.ReadFile(path)
			found[path] = string(raw)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 25 {
		t.Fatalf("only %d pages", len(found))
	}
	return found
}

// anchors returns the anchors that GitHub generates for the headings of a page.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for line := range strings.Lines(page) {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			name := strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
					return r
				}
				return -1
			}, strings.ToLower(strings.TrimSpace(title)))
			found[name] = true
		}
	}
	return found
}

// TestLinks checks that links to files of the repository, and to their headings, have a target.
func TestLinks(t *testing.T) {
	all := pages(t)
	for path, page := range all {
		for _, match := range link.FindAllStringSubmatch(page, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(match[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: %v", path, match[1], err)
				continue
			}
			if heading != "" && !anchors(all[target])[heading] {
				t.Errorf("%s: link to %s: no such heading", path, match[1])
			}
		}
	}
}

// TestMakeTargetsExist checks that every make command in a document names an existing target.
func TestMakeTargetsExist(t *testing.T) {
	raw, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, match := range ruleOf.FindAllStringSubmatch(string(raw), -1) {
		targets[match[1]] = true
	}
	used := 0
	for path, page := range pages(t) {
		for _, code := range codeBlock.FindAllStringSubmatch(page, -1) {
			for _, match := range makeTarget.FindAllStringSubmatch(code[1]+code[2], -1) {
				used++
				if !targets[match[1]] {
					t.Errorf("%s: make has no target %s", path, match[1])
				}
			}
		}
	}
	if used < 20 {
		t.Errorf("only %d make commands: has their format changed?", used)
	}
}
