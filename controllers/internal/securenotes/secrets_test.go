package securenotes

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// recordingVault records secrets, and counts those that it then creates.
type recordingVault struct {
	fakeVault
	created int
}

func (v *recordingVault) Ensure(ctx context.Context, d vaultadmin.Deployment) (vaultadmin.DeploymentState, error) {
	secrets := d.Secrets
	secrets.SessionKeys = vaultadmin.Secret{Entry: "session-keys-1000000000001", Digest: "digest"}
	if err := d.Record(ctx, secrets); err != nil {
		return vaultadmin.DeploymentState{}, err
	}
	v.created++
	return vaultadmin.DeploymentState{DeploymentID: "uid", Secrets: secrets}, nil
}

// TestNothingIsCreatedUnrecorded: a stale cache shows an object with keys as one without. Nothing
// is recorded, so nothing is created, and the pass is repeated. No condition changes.
func TestNothingIsCreatedUnrecorded(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]bool{"current": false, "behind": true} {
		t.Run(name, func(t *testing.T) {
			vault := &recordingVault{}
			r := reconciler(t, &vault.fakeVault, object())
			r.Vault = func(string) (Vault, bool) { return vault, true }
			read, other := &v1alpha1.SecureNotes{}, &v1alpha1.SecureNotes{}
			for _, sn := range []*v1alpha1.SecureNotes{read, other} {
				if err := r.Live.Get(t.Context(), client.ObjectKeyFromObject(object()), sn); err != nil {
					t.Fatal(err)
				}
			}
			if behind {
				other.Status.DeploymentID, other.Status.SessionKeys = "uid", "session-keys-1000000000009"
				if err := r.Client.Status().Update(t.Context(), other); err != nil {
					t.Fatal(err)
				}
			}
			s := newScope(read, operand.Environment{ClusterID: "cluster"}, now)
			err := r.vault(t.Context(), s)
			if apierrors.IsConflict(err) != behind || (err == nil) == behind || vault.created != map[bool]int{false: 1, true: 0}[behind] {
				t.Errorf("error %v with %d created, want a conflict and none, or no error and 1; behind: %t", err, vault.created, behind)
			}
			if s.vaultFinding.known() == behind {
				t.Errorf("got finding %+v, want one only if the cache is current; behind: %t", s.vaultFinding, behind)
			}
			if err := r.Live.Get(t.Context(), client.ObjectKeyFromObject(read), other); err != nil {
				t.Fatal(err)
			}
			want := map[bool]string{false: "session-keys-1000000000001", true: "session-keys-1000000000009"}[behind]
			if got := secretrecord.Get(&other.Status).SessionKeys.Entry; got != want {
				t.Errorf("recorded %s, want %s", got, want)
			}
		})
	}
}
