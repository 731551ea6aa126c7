package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/layout"
)

// Record says which checkout made the cluster, and from what. It is written before kind starts, so
// that a killed creation is told apart from somebody else's cluster.
type Record struct {
	Checkout string `json:"checkout"`
	Config   string `json:"config"`
	Own      bool   `json:"own"`      // our node image rather than kind's
	Complete bool   `json:"complete"` // creation was seen to end
}

func recordPath(l layout.Layout) string { return l.Machine("record.json") }

// ReadRecord returns false where there is none.
func ReadRecord(l layout.Layout) (Record, bool, error) {
	var r Record
	b, err := os.ReadFile(recordPath(l))
	if errors.Is(err, os.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, false, fmt.Errorf("%s: %w", recordPath(l), err)
	}
	return r, true, nil
}

func (r Record) write(l layout.Layout) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return layout.WriteFile(recordPath(l), append(b, '\n'), 0o644)
}

// Foreign explains why the recorded cluster is not this checkout's to touch; empty when it is, or when
// there is none. The cluster of another checkout that does not run, because its daemon or its nodes
// died, is nobody's any more. alive is a daemon that answers; nil when none does.
func Foreign(ctx context.Context, l layout.Layout, alive *docker.Docker) (string, error) {
	r, found, err := ReadRecord(l)
	if err != nil || !found || r.Checkout == l.Root || alive == nil {
		return "", err
	}
	if _, err := os.Stat(r.Checkout); errors.Is(err, os.ErrNotExist) {
		return "", nil // its checkout is gone: somebody has to clean up
	}
	running, err := alive.Command("ps", "--quiet", "--filter", "label=io.x-k8s.kind.cluster="+layout.ClusterName).Output(ctx)
	if err != nil || strings.TrimSpace(running) == "" {
		return "", err
	}
	return fmt.Sprintf("the cluster %q of this machine belongs to the checkout %s; run `make down` there first", layout.ClusterName, r.Checkout), nil
}
