// Package upgrade knows the release before this tree, from which upgrade tests and comparisons of
// the API start. A commit stands for it, because a clone need not have tags.
package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"sigs.k8s.io/yaml"
)

// pending stands for the commit in the commit of the release itself.
const pending = "pending"

// ErrPending means that the release's commit is not recorded yet.
var ErrPending = errors.New("hack/upgrade/PREVIOUS does not have the commit of the release yet: record it in the commit after the release")

// Release is a version and the commit that it was built from.
type Release struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

var (
	versionForm = regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	commitForm  = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// Previous reads hack/upgrade/PREVIOUS of a checkout. Errors: ErrPending, with the version filled
// in.
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
		return Release{}, fmt.Errorf("hack/upgrade/PREVIOUS: version %q must be that of a release, such as 0.1.0", r.Version)
	}
	if r.Commit == pending {
		return Release{Version: r.Version}, ErrPending
	}
	if !commitForm.MatchString(r.Commit) {
		return Release{}, fmt.Errorf("hack/upgrade/PREVIOUS: commit %q must be a whole hash of 40 digits, or %q", r.Commit, pending)
	}
	return r, nil
}
