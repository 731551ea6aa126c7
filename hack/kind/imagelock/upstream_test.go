package imagelock

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

const lockPath = "../images.lock.yaml"

// TestLockIsAsWritten checks that `bin/kind lock` changes only digests in the committed lock.
func TestLockIsAsWritten(t *testing.T) {
	lock, err := Read(lockPath)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy.yaml")
	if err := lock.Write(copied, UpstreamHeader); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(lockPath)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestBothWaysRunTheSameVersions checks that upstream's images have the versions that hack/tools
// builds, so that tests have the same results with both. kind publishes a node image for one patch
// release of each minor version.
func TestBothWaysRunTheSameVersions(t *testing.T) {
	lock, err := Read(lockPath)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[Use]struct {
		dir, module string
		minor       bool
	}{
		Node:                  {"kubernetes", "k8s.io/kubernetes", true},
		CertManagerController: {"cert-manager", "github.com/cert-manager/cert-manager", false},
		CertManagerWebhook:    {"cert-manager", "github.com/cert-manager/cert-manager", false},
		CertManagerCAInjector: {"cert-manager", "github.com/cert-manager/cert-manager", false},
		Vault:                 {"vault", "github.com/hashicorp/vault", false},
	}
	for use, tc := range tests {
		t.Run(string(use), func(t *testing.T) {
			image, err := lock.Get(use)
			if err != nil {
				t.Fatal(err)
			}
			got, want := strings.TrimPrefix(image.Tag, "v"), strings.TrimPrefix(required(t, tc.dir, tc.module), "v")
			if tc.minor {
				got, want = got[:strings.LastIndex(got, ".")], want[:strings.LastIndex(want, ".")]
			}
			if got != want {
				t.Errorf("images.lock.yaml has %s, hack/tools/%s builds %s", got, tc.dir, want)
			}
		})
	}
	if got, want := lock.Charts["cert-manager"].Version, required(t, "cert-manager", "github.com/cert-manager/cert-manager"); got != want {
		t.Errorf("the chart of cert-manager is %s, hack/tools/cert-manager builds %s", got, want)
	}
}

// required returns the version of a module that a tool of hack/tools requires.
func required(t *testing.T, dir, module string) string {
	t.Helper()
	path := filepath.Join("..", "..", "tools", dir, "go.mod")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.ParseLax(path, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range file.Require {
		if r.Mod.Path == module {
			return r.Mod.Version
		}
	}
	t.Fatalf("%s does not require %s", path, module)
	return ""
}
