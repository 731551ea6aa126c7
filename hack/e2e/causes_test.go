//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/hack/poll"
)

// TestCauses checks that Ready shows within a minute what prevents pods from running, with the next
// step and a Warning event, and that the service starts when the cause is corrected.
func TestCauses(t *testing.T) {
	t.Parallel()
	c := open(t)
	t.Run("quota", func(t *testing.T) {
		t.Parallel()
		namespace := c.newNamespace(t)
		quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "small"}}
		quota.Spec.Hard = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}
		c.create(t, quota)
		c.awaitQuota(t, quota)
		sn := embedded(namespace, "notes")
		c.create(t, sn)
		c.awaitCause(t, sn, v1alpha1.ReasonQuotaExceeded, "exceeded quota: small", "raise the ResourceQuota")

		// The quota suffices for the service, but not for a rotation.
		before := quota.DeepCopy()
		quota.Spec.Hard[corev1.ResourcePods] = resource.MustParse("1")
		if err := c.Patch(context.Background(), quota, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		c.ready(t, sn)
		kr := &v1alpha1.KeyRotation{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "crowded"},
			Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: sn.Name}},
		}
		c.create(t, kr)
		poll.Eventually(t, time.Minute, "KeyRotation crowded names the quota", func(ctx context.Context) error {
			if err := c.Get(ctx, client.ObjectKeyFromObject(kr), kr); err != nil {
				return err
			}
			found := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
			if found == nil || found.Reason != v1alpha1.ReasonQuotaExceeded || !strings.Contains(found.Message, "raise the ResourceQuota") {
				return fmt.Errorf("conditions: %s", describe(kr.Status.Conditions))
			}
			return nil
		})
		c.awaitWarning(t, kr, v1alpha1.ReasonQuotaExceeded)
		c.condition(t, sn, time.Minute, v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded)
		c.remove(t, kr)
	})
	t.Run("priority class", func(t *testing.T) {
		t.Parallel()
		namespace := c.newNamespace(t)
		sn := embedded(namespace, "notes")
		sn.Spec.PodTemplate = &v1alpha1.PodTemplate{PriorityClassName: namespace}
		c.create(t, sn)
		c.awaitCause(t, sn, v1alpha1.ReasonPriorityClassNotFound, "no PriorityClass with name "+namespace, "create the PriorityClass")
		class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Value: 1}
		c.create(t, class)
		t.Cleanup(func() {
			if err := c.Delete(context.Background(), class); err != nil {
				t.Error(err)
			}
		})
		c.ready(t, sn)
	})
	t.Run("readyz", func(t *testing.T) {
		t.Parallel()
		namespace := c.newNamespace(t)
		c.putSecret(t, namespace, "redis", "uri", "rediss://user:a-redis-password@nowhere.invalid:6379/0")
		sn := embedded(namespace, "notes")
		sn.Spec.RateLimits = &v1alpha1.RateLimits{Redis: &v1alpha1.RedisStore{URISecretRef: v1alpha1.SecretKeyReference{Name: "redis", Key: "uri"}}}
		c.create(t, sn)
		message := c.awaitCause(t, sn, v1alpha1.ReasonNotReady, "Redis at nowhere.invalid:6379")
		if strings.Contains(message, "a-redis-password") {
			t.Errorf("the message contains the password: %s", message)
		}
		before := sn.DeepCopy()
		sn.Spec.RateLimits = nil
		if err := c.Patch(context.Background(), sn, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		c.ready(t, sn)
	})
}

func (c *cluster) create(t testing.TB, object client.Object) {
	t.Helper()
	if err := c.Create(context.Background(), object); err != nil {
		t.Fatal(err)
	}
}

// awaitQuota waits until the quota is in force.
func (c *cluster) awaitQuota(t testing.TB, quota *corev1.ResourceQuota) {
	t.Helper()
	poll.Eventually(t, time.Minute, "quota "+quota.Name, func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(quota), quota); err != nil {
			return err
		}
		if len(quota.Status.Hard) == 0 {
			return fmt.Errorf("status: %+v", quota.Status)
		}
		return nil
	})
}

// awaitCause waits until Ready is False for a reason of the workload, and returns its message. It
// waits for at most a minute after the certificate exists.
func (c *cluster) awaitCause(t testing.TB, sn *v1alpha1.SecureNotes, reason string, wanted ...string) string {
	t.Helper()
	c.condition(t, sn, 2*time.Minute, v1alpha1.ConditionCertificateReady, metav1.ConditionTrue, "")
	message := c.condition(t, sn, time.Minute, v1alpha1.ConditionReady, metav1.ConditionFalse, reason)
	for _, part := range append(wanted, v1alpha1.ConditionWorkloadReady+": ") {
		if !strings.Contains(message, part) {
			t.Errorf("the message does not contain %q: %s", part, message)
		}
	}
	c.awaitWarning(t, sn, reason)
	return message
}

// awaitWarning waits for a Warning event about an object.
func (c *cluster) awaitWarning(t testing.TB, about client.Object, reason string) {
	t.Helper()
	poll.Eventually(t, 20*time.Second, "a Warning event "+reason, func(ctx context.Context) error {
		list := &corev1.EventList{}
		err := c.List(ctx, list, client.InNamespace(about.GetNamespace()), client.MatchingFields{
			"involvedObject.uid": string(about.GetUID()), "type": corev1.EventTypeWarning, "reason": reason,
		})
		if err == nil && len(list.Items) == 0 {
			err = fmt.Errorf("there is no such event")
		}
		return err
	})
}
