package deployment_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestUnfinishedRestoreIsRefused checks that nothing uses a database that a restore has not
// finished, and that the error says what to do. The previous release compares the deployment's id,
// which is a UID.
func TestUnfinishedRestoreIsRefused(t *testing.T) {
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		ctx, db := t.Context(), job(t)
		local, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		d := config.Deployment{ID: uuid.NewString(), Namespace: "ns", Name: "notes"}
		keys := envelope.NewKeyring(d.ID, local)
		if err := deployment.Claim(ctx, db, keys, d); err != nil {
			t.Fatal(err)
		}
		meta, err := db.Meta(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.StartRestore(ctx, "run", meta, store.RefuseExisting); err != nil {
			t.Fatal(err)
		}
		for name, err := range map[string]error{
			"Check":   deployment.Check(ctx, db, keys, d),
			"CheckID": deployment.CheckID(ctx, db, d),
			"Claim":   deployment.Claim(ctx, db, keys, d),
		} {
			if !errors.Is(err, deployment.ErrRestoring) || errors.Is(err, deployment.ErrOtherDeployment) {
				t.Errorf("%s: %v, want ErrRestoring", name, err)
			} else if !strings.Contains(err.Error(), "run `securenotes restore` again") {
				t.Errorf("%s: %v", name, err)
			}
		}
		restoring, err := db.Meta(ctx)
		if id, errID := db.DeploymentID(ctx); err != nil || errID != nil || restoring.DeploymentID == d.ID || id == d.ID {
			t.Errorf("the previous release accepts the database: %s, %s, %v, %v", restoring.DeploymentID, id, err, errID)
		}
		if err := db.FinishRestore(ctx, "run", meta, 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(deployment.Check(ctx, db, keys, d), deployment.CheckID(ctx, db, d)); err != nil {
			t.Errorf("after the restore: %v", err)
		}
	})
}

// TestOnlyRestoresAreRestoring checks which deployment ids mark an unfinished restore.
func TestOnlyRestoresAreRestoring(t *testing.T) {
	for id, want := range map[string]string{"restoring:abc": "abc", uuid.NewString(): "", "": "", "a restoring:b": ""} {
		if run, restoring := store.Restoring(id); run != want && restoring || restoring != (want != "") {
			t.Errorf("%q: %q, %t", id, run, restoring)
		}
	}
}
