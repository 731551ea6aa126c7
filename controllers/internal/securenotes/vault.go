package securenotes

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// check is the result of the last check of an object's keys. While it is fresh, a pass sends no
// request to Vault. The zero value is not fresh.
type check struct {
	// until is when Vault must be asked again.
	until time.Time
	// inputs are what the result depends on.
	inputs string
	state  vaultadmin.DeploymentState
}

// fresh reports whether the result still holds for these inputs.
func (c check) fresh(inputs string, now time.Time) bool {
	return c.inputs == inputs && now.Before(c.until)
}

// vault checks the master key, the session keys and the pepper, and creates what is missing.
func (r *Reconciler) vault(ctx context.Context, s *scope) error {
	if err := operand.CheckClusterID(s.sn, s.env.ClusterID); err != nil {
		s.hasKeys = false // the pods get no configuration with keys that may not be their own
		return r.vaultTrouble(ctx, s, err)
	}
	vault, err := r.connect(s)
	if err != nil {
		return r.vaultTrouble(ctx, s, err)
	}
	list, err := r.listRotations(ctx, s.sn)
	if err != nil {
		return err
	}
	s.rotationList = list
	checked := r.vaultChecks.get(s.sn.UID)
	// A restore may have brought another deployment since.
	restored := s.sn.Status.DeploymentID != "" && checked.state.DeploymentID != s.sn.Status.DeploymentID
	if restored || !checked.fresh(vaultInputs(s.sn, list), s.now) {
		d := r.deploymentOf(s)
		if d.NamespaceUID, err = r.namespaceUID(ctx, s.sn.Namespace); err != nil {
			return err
		}
		if checked, err = r.ensureKeys(ctx, s, vault, d); err != nil {
			return r.vaultTrouble(ctx, s, err)
		}
	}
	state := checked.state
	if newest := rotations.NewestVersion(s.sn, list); state.Key.Latest < newest {
		r.keyRestored(s, state.Key.Latest, newest)
		return nil
	}
	s.requeueAfter(checked.until.Sub(s.now), "the next check of the keys in Vault")
	s.databaseRights = state.DatabaseRights
	s.key, s.env.DeploymentID, s.hasKeys = &state.Key, state.DeploymentID, true
	s.database, s.backupKeyProblem = &state.Database, state.BackupKey.Problem
	s.vaultFinding = good(v1alpha1.ReasonReady, "the master key, session keys and pepper are in Vault")
	return nil
}

// ensureKeys checks the keys in Vault, creates what is missing, and remembers the result.
func (r *Reconciler) ensureKeys(ctx context.Context, s *scope, vault Vault, d vaultadmin.Deployment) (check, error) {
	state, err := vault.Ensure(ctx, d)
	if err != nil {
		return check{}, err
	}
	// Only a result that is new: a Compromise may have recorded other secrets since an earlier one.
	s.setSecrets(state.Secrets)
	r.setBackupKeys(ctx, s, state.BackupKey)
	if state.AuditKeyReplaced {
		r.Recorder.Eventf(s.sn, nil, corev1.EventTypeWarning, "AuditKeyReplaced", "Reconcile",
			"the audit key was missing in Vault, and the operator created another one: verify earlier lines with the public keys that you saved")
	}
	left := jittered(r.VaultResyncInterval)
	if state.DatabaseRights != nil {
		left = jittered(retryInterval)
	}
	// Ensure may have changed the status, on which the inputs depend. A check whose inputs are
	// those of a stale cache must not count.
	checked := check{until: s.now.Add(left), inputs: vaultInputs(s.sn, s.rotationList), state: state}
	r.vaultChecks.put(s.sn.UID, checked)
	return checked, nil
}

// keyRestored records that Vault has fewer versions of the key than were seen before. The status
// keeps the newest version that was seen.
func (r *Reconciler) keyRestored(s *scope, latest, newest int64) {
	r.vaultChecks.drop(s.sn.UID)
	s.vaultFinding = bad(v1alpha1.ReasonKeyRestored, fmt.Sprintf("the master key's latest version is %d, but there was a version %d: %s", latest, newest, rotations.RestoreVaultAdvice))
	s.retry("Vault has lost versions of the master key")
}

// connect finds the object's Vault connection in the operator's configuration.
func (r *Reconciler) connect(s *scope) (Vault, error) {
	name := operand.VaultConnection(s.sn)
	vault, ok := r.Vault(name)
	if !ok {
		return nil, vaultadmin.UnknownConnectionError(name)
	}
	s.env.Connection, s.connected = vault.Connection(), true
	s.setupCommand = r.SetupCommand(s.env.Connection, s.sn)
	return vault, nil
}

func (r *Reconciler) deploymentOf(s *scope) vaultadmin.Deployment {
	sn := s.sn
	d := vaultadmin.Deployment{
		Key:          config.TransitKeyName(s.env.ClusterID, sn.Namespace, sn.Name),
		AuditKey:     config.AuditKeyName(s.env.ClusterID, sn.Namespace, sn.Name),
		BackupKey:    config.BackupKeyName(s.env.ClusterID, sn.Namespace, sn.Name),
		BackupKeys:   knownBackupKeys(sn.Status.BackupKeys),
		Directory:    config.KVPath(s.env.ClusterID, sn.Namespace, sn.Name),
		UID:          string(sn.UID),
		Created:      sn.CreationTimestamp.Time,
		ClusterUID:   s.env.ClusterUID,
		DeploymentID: sn.Status.DeploymentID,
		Secrets:      s.secrets,
		Record:       func(ctx context.Context, secrets vaultadmin.Secrets) error { return r.recordSecrets(ctx, s, secrets) },
		Adopt:        ptr.Deref(sn.Spec.AdoptRetainedKey, false),
		AdoptOf:      sn.Spec.AdoptRetainedKeyOf,
	}
	drill := operand.DrillStatus(sn)
	for _, identity := range drill.Identities {
		d.DrillIdentities = append(d.DrillIdentities, identity.Entry)
	}
	if drill.NextIdentity != nil {
		d.DrillIdentities = append(d.DrillIdentities, drill.NextIdentity.Entry)
	}
	if operand.UsesVaultCredentials(sn) {
		d.DatabaseRole = config.DatabaseRoleName(s.env.ClusterID, sn.Namespace, sn.Name)
	}
	return d
}

// namespaceUID returns the UID of the object's namespace. It reads past the cache: the UID is
// rarely needed, and a watch of namespaces would need a wider right.
func (r *Reconciler) namespaceUID(ctx context.Context, name string) (string, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if apierrors.IsForbidden(err) {
		// The role has only the rights that an earlier release needed. adoptRetainedKey adopts
		// nothing without the UID.
		log.FromContext(ctx).Info("cannot read the namespace: upgrade the operator's rights with its chart", "namespace", name)
		return "", nil
	}
	if err != nil {
		return "", client.IgnoreNotFound(err)
	}
	return string(namespace.UID), nil
}

// vaultInputs returns a text that changes when the keys must be checked again.
func vaultInputs(sn *v1alpha1.SecureNotes, list []v1alpha1.KeyRotation) string {
	newest, floor, ended := int64(0), int64(0), 0
	for _, kr := range list {
		if rotations.Ended(&kr) || rotations.WaitsFor(&kr, v1alpha1.ReasonKeyTaken) {
			ended++ // the cause may lie in Vault
		}
		newest = max(newest, ptr.Deref(kr.Status.ToVersion, 0))
	}
	if key := sn.Status.MasterKey; key != nil {
		floor = key.MinDecryptionFloor
	}
	return fmt.Sprint(sn.Generation, newest, floor, ended, sn.Status.SessionKeys, sn.Status.BackupKeys == nil)
}

// vaultTrouble records an error of Vault as the result of the pass, and asks for a retry. It
// returns the errors that the work queue must retry with its own backoff.
func (r *Reconciler) vaultTrouble(ctx context.Context, s *scope, err error) error {
	if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
		return err // the API server did not accept a record that comes before the write to Vault
	}
	problem := vaultadmin.ProblemOf(err)
	if problem == vaultadmin.Busy {
		s.requeueAfter(jittered(vaultadmin.BusyPause), "earlier calls to Vault are in progress")
		return nil
	}
	// No earlier result counts until Vault was asked again.
	r.vaultChecks.drop(s.sn.UID)
	if problem == vaultadmin.Unexpected {
		s.vaultFinding = unknown(string(problem), "Vault gave an unexpected answer; see the operator's log")
		return err
	}
	if cause := errors.Unwrap(err); cause != nil {
		log.FromContext(ctx).Info("Vault cannot be used", "problem", problem, "cause", cause.Error())
	}
	s.vaultFinding = bad(string(problem), err.Error()+s.vaultNextStep(problem))
	s.retry("Vault cannot be used: " + string(problem))
	return nil
}

// vaultNextStep returns what people can do about a problem, in the form of an addition to a
// message.
func (s *scope) vaultNextStep(problem vaultadmin.Problem) string {
	switch problem {
	case vaultadmin.SetupMissing, vaultadmin.Denied:
		return s.setupStep()
	case vaultadmin.Unreachable:
		return ": check the address in the operator's vaultConnections, and the network; the operator tries again"
	case vaultadmin.Sealed:
		return ": unseal it; the operator tries again"
	case vaultadmin.DatabaseRoleMissing:
		return ": the Vault administrator must create it; see docs/database-credentials.md"
	case vaultadmin.Missing:
		return ": without it nobody can read the notes, and the operator creates no other in its place; restore it from a backup of Vault"
	default:
		return "" // the message of the problem ends with the next step
	}
}

// rightsMissing describes rights in Vault that one feature needs.
func (s *scope) rightsMissing(err error) finding {
	return bad(string(vaultadmin.ProblemOf(err)), err.Error()+s.setupStep())
}

// setupStep returns the next step about missing rights.
func (s *scope) setupStep() string {
	return ": the Vault administrator must run `" + s.setupCommand + "`"
}
