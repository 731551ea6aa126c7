package keyrotation

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// verification is the Job that shows, in a process of its own, that nothing is left under an older
// version.
var verification = job{
	name: "Verify", noun: "verification",
	running: v1alpha1.ReasonVerifying, doneStep: "RecordVerified", doneCondition: v1alpha1.ConditionVerified,
	record: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) {
			setCondition(o.rotation, s, v1alpha1.ConditionVerified, metav1.ConditionTrue, v1alpha1.ReasonComplete,
				fmt.Sprintf("nothing is encrypted under a version before %d, and every key can be used", *s.ToVersion))
		})
	},
	outcome:  func(o *observed) *trustedjob.Outcome { return &o.verify },
	identity: func(s *v1alpha1.KeyRotationStatus) (uid, digest *string) { return &s.VerifyJobUID, &s.VerifyJobDigest },
	jobName:  operand.VerifyJobName,
	pods:     func(*v1alpha1.KeyRotationStatus) int32 { return 1 },
	build:    operand.VerifyJob,
}
