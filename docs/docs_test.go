// Package docs_test checks the documents against the code: links lead somewhere, named tests exist,
// and documented limits are those of the code.
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
	// docLink matches the end of a link to a page, or to a section of it.
	docLink = regexp.MustCompile(`\.md(#[a-z0-9-]+)?\)`)
	// requirement is a row of docs/asvs.md: id, level, requirement, state, evidence or reason.
	requirement = regexp.MustCompile(`^\| (V\d+\.\d+\.\d+) \| ([12]) \| [^|]+ \| (holds|partly|no) \| ([^|]+) \|$`)
)

// testsOf returns the names of all tests of the repository, in every suite and module.
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
	for _, document := range []string{"../CONTRIBUTING.md", "adr/0004-fence.md", "asvs.md", "backup.md", "backup-format.md", "database-credentials.md", "limits.md", "lost-cluster.md", "releasing.md", "security.md", "vault.md"} {
		raw, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		matches := named.FindAllSubmatch(raw, -1)
		if len(matches) == 0 {
			t.Errorf("%s names no test: has its format changed?", document)
		}
		for _, match := range matches {
			if !tests[string(match[1])] {
				t.Errorf("%s names %s, which does not exist", document, match[1])
			}
		}
	}
}

// TestRequirementsAreShown checks that every requirement of docs/asvs.md that holds names a test or
// a document as evidence, and that no requirement is listed twice.
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
			t.Errorf("not a row of id, level, requirement, state and evidence: %s", line)
			continue
		}
		id, state, evidence := row[1], row[3], row[4]
		if seen[id] {
			t.Errorf("%s is listed twice", id)
		}
		seen[id] = true
		shown := named.MatchString(evidence) || docLink.MatchString(evidence)
		if state == "holds" && (!shown || strings.Contains(evidence, "no test")) {
			t.Errorf("%s holds, but has no evidence: %s", id, evidence)
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d requirements: has the format of the table changed?", len(seen))
	}
}
