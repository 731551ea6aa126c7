// Package docs_test holds the documents to the code: a test that a document names as evidence exists.
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
	declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	named    = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	// requirement is a row of docs/asvs.md: id, level, what is asked, state, evidence or reason.
	requirement = regexp.MustCompile(`^\| (V\d+\.\d+\.\d+) \| ([12]) \| [^|]+ \| (holds|partly|no) \| ([^|]+) \|$`)
)

// testsOf finds every test of the repository, of every suite and module.
func testsOf(t *testing.T, root string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "dist") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		for _, match := range declared.FindAllSubmatch(raw, -1) {
			found[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestNamedTestsExist(t *testing.T) {
	tests := testsOf(t, "..")
	for _, document := range []string{"../CONTRIBUTING.md", "adr/0004-fence.md", "asvs.md", "database-credentials.md", "limits.md", "lost-cluster.md", "releasing.md", "security.md", "vault.md"} {
		raw, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		matches := named.FindAllSubmatch(raw, -1)
		if len(matches) == 0 {
			t.Errorf("%s names no test: has its form changed?", document)
		}
		for _, match := range matches {
			if !tests[string(match[1])] {
				t.Errorf("%s names %s, which does not exist", document, match[1])
			}
		}
	}
}

// TestRequirementsAreShown: what docs/asvs.md says holds, a test or a document shows, and nothing of it is said to
// have none; and no requirement stands there twice.
func TestRequirementsAreShown(t *testing.T) {
	raw, err := os.ReadFile("asvs.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "| V") {
			continue
		}
		row := requirement.FindStringSubmatch(line)
		if row == nil {
			t.Errorf("not a row of id, level, what is asked, state and evidence: %s", line)
			continue
		}
		id, state, evidence := row[1], row[3], row[4]
		if seen[id] {
			t.Errorf("%s stands there twice", id)
		}
		seen[id] = true
		shown := named.MatchString(evidence) || strings.Contains(evidence, ".md)")
		if state == "holds" && (!shown || strings.Contains(evidence, "no test")) {
			t.Errorf("%s holds, but nothing shows it: %s", id, evidence)
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d requirements: has the form of the table changed?", len(seen))
	}
}
