package deployment_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestAnotherPepperIsRefused checks that the first process on a database of the previous release
// records the pepper, and that no other pepper is accepted afterwards.
func TestAnotherPepperIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		ctx, db := context.Background(), open(t)
		own, planted := config.NewPepper(), config.NewPepper()
		if err := deployment.CheckPepper(ctx, db, own); !errors.Is(err, store.ErrNoMeta) {
			t.Errorf("a database of no deployment: %v, want ErrNoMeta", err)
		}
		local, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		d := config.Deployment{ID: "d1", Namespace: "ns", Name: "notes"}
		// The row is like one of the previous release.
		if err := deployment.Claim(ctx, db, envelope.NewKeyring(d.ID, local), d); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			name   string
			pepper *config.Pepper
			want   error
		}{{name: "first", pepper: own, want: nil}, {name: "again", pepper: own, want: nil}, {name: "planted", pepper: planted, want: deployment.ErrWrongPepper}, {name: "restored", pepper: own, want: nil}} {
			err := deployment.CheckPepper(ctx, db, step.pepper)
			if !errors.Is(err, step.want) {
				t.Errorf("%s: %v, want %v", step.name, err, step.want)
			}
			if err != nil && !strings.Contains(err.Error(), "restore the pepper from a backup of Vault") {
				t.Errorf("%s: %v", step.name, err)
			}
		}
		// A rotation does not change it.
		meta, err := db.Meta(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.ReplaceCanary(ctx, 0, meta, meta); err != nil {
			t.Fatal(err)
		}
		if err := deployment.CheckPepper(ctx, db, planted); !errors.Is(err, deployment.ErrWrongPepper) {
			t.Errorf("after a rotation: %v", err)
		}
	})
}

// TestLostPeppers checks that users are counted by their missing pepper.
func TestLostPeppers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db, pepper := open(t), config.NewPepper()
		for name, id := range map[string]string{"alice": pepper.CurrentID, "bobby": "lost", "carol": "lost", "david": "other"} {
			user := accounts.User{ID: uuid.NewString(), Username: name, PasswordHash: "hash", PepperID: id, CreatedAt: time.Now()}
			key := envelope.StoredKey{Owner: user.ID, ID: envelope.NewID(), Wrapped: "vault:v1:AAAA"}
			if err := db.CreateUser(t.Context(), user, key); err != nil {
				t.Fatal(err)
			}
		}
		got, err := deployment.LostPeppers(t.Context(), db, pepper)
		if want := map[string]int64{"lost": 2, "other": 1}; err != nil || !maps.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	})
}
