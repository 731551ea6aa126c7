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

// Record says which checkout created the cluster, and with which configuration. It is written
// before kind starts, so that an interrupted creation can be distinguished from a foreign cluster.
type Record struct {
	Checkout string `json:"checkout"`
	Config   string `json:"config"`
	Own      bool   `json:"own"`      // our node image instead of kind's
	Complete bool   `json:"complete"` // the creation has ended
}

func recordPath(l layout.Layout) string { return l.Machine("record.json") }

// ReadRecord reads the record, and reports whether there is one.
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

// Foreign returns why this checkout must not change the recorded cluster. Empty: it may, or there
// is none. It may replace the cluster of another checkout if its daemon or its nodes have died.
// alive is a daemon that answers, or nil.
func Foreign(ctx context.Context, l layout.Layout, alive *docker.Docker) (string, error) {
	r, found, err := ReadRecord(l)
	if err != nil || !found || r.Checkout == l.Root || alive == nil {
		return "", err
	}
	if _, err := os.Stat(r.Checkout); errors.Is(err, os.ErrNotExist) {
		return "", nil // its checkout was deleted, so any other one may clean up
	}
	running, err := alive.Command("ps", "--quiet", "--filter", "label=io.x-k8s.kind.cluster="+layout.ClusterName).Output(ctx)
	if err != nil || strings.TrimSpace(running) == "" {
		return "", err
	}
	return fmt.Sprintf("the cluster %q of this machine belongs to the checkout %s; run `make down` there first", layout.ClusterName, r.Checkout), nil
}
