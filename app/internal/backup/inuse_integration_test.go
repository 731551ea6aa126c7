//go:build integration

package backup_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/store"
)

// TestTargetInUse checks that a restore leaves a database alone while a pod of the API is connected
// to it, and succeeds afterwards.
func TestTargetInUse(t *testing.T) {
	t.Parallel()
	r := newRefused(t, newMigratedPostgres, true)
	r.target.claim(t)
	pod, err := store.Open(ctx, r.target.database.config, nil, store.RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := pod.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	before, peppers := r.target.database.dump(t), r.target.entries()
	if restored, err := r.run.Run(ctx); !errors.Is(err, store.ErrInUse) {
		t.Errorf("restored %+v, %v; want %v", restored, err, store.ErrInUse)
	}
	if diff := cmp.Diff(before, r.target.database.dump(t)); diff != "" {
		t.Errorf("the target has changed:\n%s", diff)
	}
	if diff := cmp.Diff(peppers, r.target.entries()); diff != "" {
		t.Errorf("the peppers have changed:\n%s", diff)
	}
	if err := pod.Close(); err != nil {
		t.Fatal(err)
	}
	r.target.adopt(t, r.target.mustRestore(t, r.run))
	r.target.mustHave(t, r.source.users)
}
