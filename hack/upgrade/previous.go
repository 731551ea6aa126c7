// Package upgrade reads which release came before this tree. Upgrade tests and comparisons of the
// API start from that release. Its commit identifies it, because a clone may not have tags.
package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"sigs.k8s.io/yaml"
)

// pending replaces the hash in the commit of the release itself.
const pending = "pending"

// ErrPending means that the release's commit is not recorded yet.
var ErrPending = errors.New("hack/upgrade/PREVIOUS does not have the release's commit yet: record it in the commit after the release")

// Release is a version and the commit that it was built from.
type Release struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

var (
	versionForm = regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	commitForm  = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// Previous reads hack/upgrade/PREVIOUS of a checkout. If the commit is not recorded yet, it returns
// the version and [ErrPending].
func Previous(root string) (Release, error) {
	raw, err := os.ReadFile(filepath.Join(root, "hack", "upgrade", "PREVIOUS"))
	if err != nil {
		return Release{}, err
	}
	return parse(raw)
}

func parse(raw []byte) (Release, error) {
	var r Release
	if err := yaml.UnmarshalStrict(raw, &r); err != nil {
		return Release{}, fmt.Errorf("hack/upgrade/PREVIOUS: %w", err)
	}
	if !versionForm.MatchString(r.Version) {
		return Release{}, fmt.Errorf("hack/upgrade/PREVIOUS: version %q must be a released version, such as 0.1.0", r.Version)
	}
	if r.Commit == pending {
		return Release{Version: r.Version}, ErrPending
	}
	if !commitForm.MatchString(r.Commit) {
		return Release{}, fmt.Errorf("hack/upgrade/PREVIOUS: commit %q must be a full hash of 40 digits, or %q", r.Commit, pending)
	}
	return r, nil
}
