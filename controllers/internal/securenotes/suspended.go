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

// observe looks at the Deployment of a suspended object and changes nothing.
func (r *Reconciler) observe(ctx context.Context, s *scope) error {
	if err := r.asItIs(ctx, s, &appsv1.Deployment{}); err != nil {
		return err
	}
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list, client.InNamespace(s.sn.Namespace), client.MatchingLabels(operand.Selector(s.sn))); err != nil {
		return err
	}
	s.workloadFinding = suspendedWorkload(s, readPods(list.Items, cause.Look{}, s.now))
	return nil
}

// suspendedWorkload reports whether the pods that run are available. Changes of the spec since the
// suspension do not count.
func suspendedWorkload(s *scope, report podReport) finding {
	d := s.deployment
	if d == nil || d.DeletionTimestamp != nil {
		return bad(v1alpha1.ReasonSuspended, fmt.Sprintf("Deployment %s does not exist, and the operator creates nothing while spec.suspend is true: set it to false", s.sn.Name))
	}
	if st := d.Status; st.ObservedGeneration >= d.Generation && st.AvailableReplicas > 0 && st.UnavailableReplicas == 0 {
		return good(v1alpha1.ReasonReady, fmt.Sprintf("%d replicas answer", st.AvailableReplicas))
	}
	if f := workloadFinding(s, report); f.status != metav1.ConditionTrue {
		return f
	}
	return bad(v1alpha1.ReasonProgressing, fmt.Sprintf("%d replicas answer", d.Status.AvailableReplicas))
}

// unseen are the reasons of a workload's trouble that the state of its pods does not show.
var unseen = []string{
	v1alpha1.ReasonLoadBalancerPending, v1alpha1.ReasonNameConflict, v1alpha1.ReasonApplyFailed, v1alpha1.ReasonInvalidResources, v1alpha1.ReasonDatabaseLost,
}

// suspend sets the status of a suspended object. Only its workload is looked at: the conditions of
// what is not keep the generation that they were last found at. The rotations' health says that it
// is suspended, because a requested rotation waits, and no other condition would tell why. What was
// wrong before, and is not looked at, may be wrong still: suspending is no way to be ready.
func suspend(s *scope, status *v1alpha1.SecureNotesStatus) {
	sn := s.sn
	status.ObservedGeneration = sn.Generation
	status.Selector = operand.SelectorString(sn)
	status.Replicas, status.ReadyReplicas = 0, 0
	if s.deployment != nil {
		status.Replicas, status.ReadyReplicas = s.deployment.Status.Replicas, s.deployment.Status.ReadyReplicas
	}
	for _, kind := range append(slices.Clone(summed), v1alpha1.ConditionKeyRotationHealthy) {
		if meta.FindStatusCondition(status.Conditions, kind) == nil {
			setCondition(sn, status, kind, unknown(v1alpha1.ReasonSuspended, "spec.suspend is true"))
		}
	}
	setCondition(sn, status, v1alpha1.ConditionKeyRotationHealthy, unknown(v1alpha1.ReasonSuspended,
		"spec.suspend is true: nothing is changed, and rotations wait, until it is false"))
	workload := s.workloadFinding
	if !workload.known() {
		workload = unknown(v1alpha1.ReasonUnknown, "spec.suspend is true, and the Deployment could not be read")
	}
	before := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionWorkloadReady)
	if kept := before.Status == metav1.ConditionFalse && slices.Contains(unseen, before.Reason); !kept || workload.status != metav1.ConditionTrue {
		setCondition(sn, status, v1alpha1.ConditionWorkloadReady, workload)
	}
	hindrance := ""
	if c := deepest(status); workload.status == metav1.ConditionTrue && c != nil && c.Status == metav1.ConditionFalse {
		reason, message := c.Reason, c.Type+": "+c.Message+" (as it was found before spec.suspend was set; nothing is looked at or changed until that is false)"
		setCondition(sn, status, v1alpha1.ConditionReady, bad(reason, message))
		hindrance = v1alpha1.ConditionStalled // while it is suspended, no time heals it
		setCondition(sn, status, hindrance, good(reason, message))
	} else if workload.status == metav1.ConditionTrue {
		setCondition(sn, status, v1alpha1.ConditionReady, good(v1alpha1.ReasonSuspended,
			"the service runs as it was before; changes of the spec are not applied while spec.suspend is true"))
	} else {
		message := v1alpha1.ConditionWorkloadReady + ": " + workload.message
		setCondition(sn, status, v1alpha1.ConditionReady, finding{workload.status, workload.reason, message})
		if hindrance = v1alpha1.ConditionReconciling; workload.reason == v1alpha1.ReasonSuspended {
			hindrance = v1alpha1.ConditionStalled
		}
		setCondition(sn, status, hindrance, good(workload.reason, message))
	}
	for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if kind != hindrance {
			meta.RemoveStatusCondition(&status.Conditions, kind)
		}
	}
	sortConditions(status)
}
