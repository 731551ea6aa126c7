package securenotes

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// check is when an object's keys were last found to be as they should be, so that an event of a pod
// does not cost a request to Vault. The zero value is not fresh.
type check struct {
	// until is when Vault is to be asked again.
	until time.Time
	// inputs that the result depends on.
	inputs string
	state  vaultadmin.DeploymentState
}

// fresh reports whether the result still holds for these inputs.
func (c check) fresh(inputs string, now time.Time) bool {
	return c.inputs == inputs && now.Before(c.until)
}

// vault makes sure of the master key, the session keys and the pepper.
func (r *Reconciler) vault(ctx context.Context, s *scope) error {
	if err := operand.CheckClusterID(s.sn, s.env.ClusterID); err != nil {
		// Without keys that are known to be its own, no configuration is written for the pods.
		s.keyed = false
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
	inputs := vaultInputs(s.sn, list)
	checked := r.vaultChecks.get(s.sn.UID)
	state, left := checked.state, checked.until.Sub(s.now)
	if !checked.fresh(inputs, s.now) {
		d := r.deploymentOf(s)
		if d.NamespaceUID, err = r.namespaceUID(ctx, s.sn.Namespace); err != nil {
			return err
		}
		if state, err = vault.Ensure(ctx, d); err != nil {
			return r.vaultTrouble(ctx, s, err)
		}
		// Not from what is remembered: a Compromise records others meanwhile.
		s.use(state.Secrets)
		if state.AuditKeyReplaced {
			r.Recorder.Eventf(s.sn, nil, corev1.EventTypeWarning, "AuditKeyReplaced", "Reconcile",
				"there was no audit key in Vault, and another was made: lines signed before are verified with the public keys that were saved then")
		}
		left = jitter.Longer(r.VaultResyncInterval)
		if state.DatabaseRights != nil {
			left = jitter.Longer(retryInterval)
		}
		// The status may have changed with it; one that a cache still shows without is not to be
		// believed.
		r.vaultChecks.put(s.sn.UID, check{until: s.now.Add(left), inputs: vaultInputs(s.sn, list), state: state})
	}
	if known := rotations.NewestVersion(s.sn, list); state.Key.Latest < known {
		r.keyRestored(s, state.Key.Latest, known)
		return nil
	}
	s.wake(left)
	if state.DatabaseRights != nil {
		s.databaseRights = r.rightsMissing(s, state.DatabaseRights)
	}
	s.key, s.env.DeploymentID, s.keyed = &state.Key, state.DeploymentID, true
	s.database = &state.Database
	s.vaultFinding = good(v1alpha1.ReasonReady, "the master key, session keys and pepper are in Vault")
	return nil
}

// keyRestored tells that Vault has fewer versions of the key than there were, and looks again soon. What Vault
// says now is not taken over: the status keeps the newest version that was seen.
func (r *Reconciler) keyRestored(s *scope, latest, known int64) {
	r.vaultChecks.drop(s.sn.UID)
	s.vaultFinding = bad(v1alpha1.ReasonKeyRestored, fmt.Sprintf("the master key's latest version is %d, but there was a version %d: %s", latest, known, rotations.RestoreVaultAdvice))
	s.wake(jitter.Longer(retryInterval))
}

// connect finds the object's Vault connection in the operator's configuration.
func (r *Reconciler) connect(s *scope) (Vault, error) {
	name := operand.VaultConnection(s.sn)
	vault, ok := r.Vault(name)
	if !ok {
		return nil, vaultadmin.UnknownConnectionError(name)
	}
	s.env.Connection, s.connected = vault.Connection(), true
	return vault, nil
}

func (r *Reconciler) deploymentOf(s *scope) vaultadmin.Deployment {
	sn := s.sn
	d := vaultadmin.Deployment{
		Key:          config.TransitKeyName(s.env.ClusterID, sn.Namespace, sn.Name),
		AuditKey:     config.AuditKeyName(s.env.ClusterID, sn.Namespace, sn.Name),
		Directory:    config.KVPath(s.env.ClusterID, sn.Namespace, sn.Name),
		UID:          string(sn.UID),
		Created:      sn.CreationTimestamp.Time,
		ClusterUID:   s.env.ClusterUID,
		DeploymentID: sn.Status.DeploymentID,
		Secrets:      s.secrets,
		Record:       func(ctx context.Context, secrets vaultadmin.Secrets) error { return r.recordSecrets(ctx, s, secrets) },
		Adopt:        sn.Spec.AdoptRetainedKey != nil && *sn.Spec.AdoptRetainedKey,
		AdoptOf:      sn.Spec.AdoptRetainedKeyOf,
	}
	if operand.UsesVaultCredentials(sn) {
		d.DatabaseRole = config.DatabaseRoleName(s.env.ClusterID, sn.Namespace, sn.Name)
	}
	return d
}

// namespaceUID of the object's own namespace, read past the cache: it is needed once, and a watch
// of namespaces would need a wider right.
func (r *Reconciler) namespaceUID(ctx context.Context, name string) (string, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if apierrors.IsForbidden(err) {
		// Rights of an earlier release: without the UID nothing is adopted by adoptRetainedKey
		// alone.
		log.FromContext(ctx).Info("may not read the namespace: upgrade the rights of the operator with its chart", "namespace", name)
		return "", nil
	}
	if err != nil {
		return "", client.IgnoreNotFound(err)
	}
	return string(namespace.UID), nil
}

// vaultInputs changes when the key must have changed, or when another answer may be had.
func vaultInputs(sn *v1alpha1.SecureNotes, list []v1alpha1.KeyRotation) string {
	newest, floor, ended := int64(0), int64(0), 0
	for _, kr := range list {
		if rotations.Ended(&kr) || rotations.WaitsFor(&kr, v1alpha1.ReasonKeyTaken) {
			ended++ // for a reason that may lie in Vault
		}
		if kr.Status.ToVersion != nil {
			newest = max(newest, *kr.Status.ToVersion)
		}
	}
	if key := sn.Status.MasterKey; key != nil {
		floor = key.MinDecryptionFloor
	}
	return fmt.Sprint(sn.Generation, newest, floor, ended, sn.Status.SessionKeys)
}

// vaultTrouble becomes a condition that names the next step; it heals by being looked at again.
func (r *Reconciler) vaultTrouble(ctx context.Context, s *scope, err error) error {
	if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
		return err // of the API server, where something had to be recorded first
	}
	problem := vaultadmin.ProblemOf(err)
	if problem == vaultadmin.Busy {
		s.wake(jitter.Longer(vaultadmin.BusyPause))
		return nil
	}
	// Whatever was found before is not believed until Vault has been asked again.
	r.vaultChecks.drop(s.sn.UID)
	if problem == vaultadmin.Unexpected {
		s.vaultFinding = unknown(string(problem), "an unexpected answer of Vault; the operator's log has it")
		return err
	}
	if cause := unwrapped(err); cause != nil {
		log.FromContext(ctx).Info("Vault is not usable", "problem", problem, "cause", cause.Error())
	}
	message := err.Error()
	switch problem {
	case vaultadmin.SetupMissing, vaultadmin.Denied:
		message += r.setupStep(s)
	case vaultadmin.Unreachable:
		message += ": check the address in the operator's vaultConnections, and the network; it is tried again"
	case vaultadmin.Sealed:
		message += ": unseal it; it is tried again"
	case vaultadmin.DatabaseRoleMissing:
		message += ": the Vault administrator must make it; docs/database-credentials.md says how"
	case vaultadmin.Missing:
		message += ": without it the notes cannot be read, and none is created in its place; restore it from a backup of Vault"
	}
	s.vaultFinding = bad(string(problem), message)
	s.wake(jitter.Longer(retryInterval))
	return nil
}

// rightsMissing tells of rights that one feature needs.
func (r *Reconciler) rightsMissing(s *scope, err error) finding {
	return bad(string(vaultadmin.ProblemOf(err)), err.Error()+r.setupStep(s))
}

// setupStep is what to do about missing rights.
func (r *Reconciler) setupStep(s *scope) string {
	return ": the Vault administrator must run `" + r.SetupCommand(s.env.Connection, s.sn) + "`"
}

func unwrapped(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return nil
}
