package securenotes

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// observe reads the Deployment, the pods and the backups of a suspended object, and changes
// nothing.
func (r *Reconciler) observe(ctx context.Context, s *scope) error {
	if err := r.readDeployment(ctx, s, &appsv1.Deployment{}); err != nil {
		return err
	}
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list, client.InNamespace(s.sn.Namespace), client.MatchingLabels(operand.Selector(s.sn))); err != nil {
		return err
	}
	s.report = new(readPods(list.Items, cause.Lookup{}, s.now))
	if s.sn.Spec.Backup == nil {
		return nil
	}
	if _, err := r.readBackups(ctx, s); err != nil {
		return err
	}
	if s.sn.Status.Backup != nil {
		recordLastBackup(s)
	}
	s.backupFinding = backupHealth(s)
	judgeDrill(s)
	return nil
}

// suspendedWorkload reports whether the running pods are available. Changes of the spec since the
// suspension do not count.
func suspendedWorkload(s *scope) finding {
	if s.report == nil {
		return unknown(v1alpha1.ReasonUnknown, "spec.suspend is true, and the Deployment could not be read")
	}
	d := s.deployment
	if d == nil || d.DeletionTimestamp != nil {
		return bad(v1alpha1.ReasonSuspended, fmt.Sprintf("Deployment %s does not exist, and the operator creates nothing while spec.suspend is true: set it to false", s.sn.Name))
	}
	if st := d.Status; st.ObservedGeneration >= d.Generation && st.AvailableReplicas > 0 && st.UnavailableReplicas == 0 {
		return good(v1alpha1.ReasonReady, fmt.Sprintf("%d replicas are available", st.AvailableReplicas))
	}
	if f := workloadFinding(s, *s.report); f.status != metav1.ConditionTrue {
		return f
	}
	return bad(v1alpha1.ReasonProgressing, fmt.Sprintf("%d replicas are available", d.Status.AvailableReplicas))
}

// hiddenReasons are the reasons of WorkloadReady that the state of the pods does not show.
var hiddenReasons = []string{
	v1alpha1.ReasonLoadBalancerPending, v1alpha1.ReasonNameConflict, v1alpha1.ReasonApplyFailed, v1alpha1.ReasonInvalidResources, v1alpha1.ReasonDatabaseLost,
}

// setSuspended sets the status of a suspended object. Only the workload and backups are observed.
// Other conditions keep their status and generation, because a fault from before the suspension may
// still exist: suspending an object must not make it Ready.
func setSuspended(s *scope, status *v1alpha1.SecureNotesStatus) {
	sn := s.sn
	status.ObservedGeneration = sn.Generation
	status.Selector = operand.SelectorString(sn)
	status.Replicas, status.ReadyReplicas = 0, 0
	if s.deployment != nil {
		status.Replicas, status.ReadyReplicas = s.deployment.Status.Replicas, s.deployment.Status.ReadyReplicas
	}
	for _, kind := range readyConditions {
		if meta.FindStatusCondition(status.Conditions, kind) == nil {
			setCondition(sn, status, kind, unknown(v1alpha1.ReasonSuspended, "spec.suspend is true"))
		}
	}
	// No other condition says why a requested rotation waits.
	setCondition(sn, status, v1alpha1.ConditionKeyRotationHealthy, unknown(v1alpha1.ReasonSuspended,
		"spec.suspend is true: the operator changes nothing, and rotations wait, until it is false"))
	workload := suspendedWorkload(s)
	before := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionWorkloadReady)
	if kept := before.Status == metav1.ConditionFalse && slices.Contains(hiddenReasons, before.Reason); !kept || workload.status != metav1.ConditionTrue {
		setCondition(sn, status, v1alpha1.ConditionWorkloadReady, workload)
	}
	setBackupHealthy(s, status)
	setSuspendedSummary(sn, status, workload)
	sortConditions(status)
}

// setSuspendedSummary sets Ready, and Reconciling or Stalled, of a suspended object.
func setSuspendedSummary(sn *v1alpha1.SecureNotes, status *v1alpha1.SecureNotesStatus, workload finding) {
	if workload.status != metav1.ConditionTrue {
		f := finding{workload.status, workload.reason, v1alpha1.ConditionWorkloadReady + ": " + workload.message}
		setCondition(sn, status, v1alpha1.ConditionReady, f)
		kind := v1alpha1.ConditionReconciling
		if workload.reason == v1alpha1.ReasonSuspended {
			kind = v1alpha1.ConditionStalled
		}
		setProgress(sn, status, kind, f)
		return
	}
	if c := mostSevere(status); c != nil && c.Status == metav1.ConditionFalse {
		f := bad(c.Reason, c.Type+": "+c.Message+" (found before spec.suspend was set; the operator checks and changes nothing until it is false)")
		setCondition(sn, status, v1alpha1.ConditionReady, f)
		setProgress(sn, status, v1alpha1.ConditionStalled, f) // it cannot heal while it is suspended
		return
	}
	setCondition(sn, status, v1alpha1.ConditionReady, good(v1alpha1.ReasonSuspended,
		"the service runs unchanged; changes of the spec are not applied while spec.suspend is true"))
	setProgress(sn, status, "", finding{})
}
