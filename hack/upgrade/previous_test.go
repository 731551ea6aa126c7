package upgrade

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	hash := strings.Repeat("0123456789", 4)
	tests := map[string]struct {
		text, wantErr string
		want          Release
	}{
		"a release":     {text: "# why\nversion: 0.1.0\ncommit: \"" + hash + "\"\n", want: Release{"0.1.0", hash}},
		"pending":       {text: "version: 0.1.0\ncommit: pending\n", want: Release{Version: "0.1.0"}, wantErr: ErrPending.Error()},
		"no commit":     {text: "version: 0.1.0\n", wantErr: "full hash"},
		"a short hash":  {text: "version: 0.1.0\ncommit: \"0123456\"\n", wantErr: "full hash"},
		"a tag":         {text: "version: v0.1.0\ncommit: \"" + hash + "\"\n", wantErr: "such as 0.1.0"},
		"another field": {text: "version: 0.1.0\ncommit: \"" + hash + "\"\ndate: today\n", wantErr: "unknown field"},
		"an empty file": {text: "", wantErr: "such as 0.1.0"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse([]byte(tc.text))
			if (err == nil) != (tc.wantErr == "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("error %v, want %q", err, tc.wantErr)
			}
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestPrevious checks the record of this checkout: the changelog has the version, and the recorded
// commit is an ancestor whose changelog has it too.
func TestPrevious(t *testing.T) {
	const root = "../.."
	release, err := Previous(root)
	if err != nil && !errors.Is(err, ErrPending) {
		t.Fatal(err)
	}
	raw, readErr := os.ReadFile(root + "/CHANGELOG.md")
	if readErr != nil {
		t.Fatal(readErr)
	}
	heading := "\n## " + release.Version + " - "
	if !strings.Contains(string(raw), heading) {
		t.Errorf("CHANGELOG.md has no section %q", strings.TrimSpace(heading))
	}
	if errors.Is(err, ErrPending) {
		return
	}
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", root}, args...)...).CombinedOutput()
		return string(out), err
	}
	// An archive of the source has no history, and a shallow clone has only a part of it.
	if shallow, err := git("rev-parse", "--is-shallow-repository"); err != nil || strings.TrimSpace(shallow) != "false" {
		return
	}
	if out, err := git("merge-base", "--is-ancestor", release.Commit, "HEAD"); err != nil {
		t.Fatalf("commit %s is not an ancestor of HEAD: %v %s", release.Commit, err, out)
	}
	if then, err := git("show", release.Commit+":CHANGELOG.md"); err != nil || !strings.Contains(then, heading) {
		t.Errorf("CHANGELOG.md of commit %s has no section %q: %v", release.Commit, strings.TrimSpace(heading), err)
	}
}
