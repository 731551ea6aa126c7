package securenotes

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// ignoredAnnotations describes the annotations for the operator that have no effect because of
// their values, and what the values must be.
func ignoredAnnotations(s *scope) []string {
	var ignored []string
	ignore := func(annotation, want string) {
		ignored = append(ignored, fmt.Sprintf("%s=%.64q is ignored: %s", annotation, s.sn.Annotations[annotation], want))
	}
	for _, annotation := range []string{v1alpha1.AnnotationAbandonVault, v1alpha1.AnnotationDeleteDespiteBackups} {
		if value, set := s.sn.Annotations[annotation]; set && value != "true" && value != "false" {
			ignore(annotation, `the value must be "true"`)
		}
	}
	if want := ignoredTrimConsent(s); want != "" {
		ignore(v1alpha1.AnnotationTrimDespiteBackups, want)
	}
	if rotations.TooLong(s.sn.Annotations[v1alpha1.AnnotationRotateRequestedAt]) {
		ignore(v1alpha1.AnnotationRotateRequestedAt, rotations.TooLongAdvice)
	}
	switch value := s.sn.Annotations[v1alpha1.AnnotationBackupRequestedAt]; {
	case value == "":
	case s.sn.Spec.Backup == nil:
		ignore(v1alpha1.AnnotationBackupRequestedAt, "spec.backup is unset; set it, or remove the annotation")
	case rotations.TooLong(value):
		ignore(v1alpha1.AnnotationBackupRequestedAt, rotations.TooLongAdvice)
	}
	value, set := s.sn.Annotations[v1alpha1.AnnotationAcceptEmptyDatabase]
	switch id := s.env.DeploymentID; {
	case !set || id == "" || s.database == nil || value == acceptance(s):
	case databaseOrLoss(s).reason == v1alpha1.ReasonDatabaseLost:
		ignore(v1alpha1.AnnotationAcceptEmptyDatabase, fmt.Sprintf("the value must be %q", acceptance(s)))
	case value != id && !strings.HasPrefix(value, id+"/"): // a value that an earlier loss used up may stay
		ignore(v1alpha1.AnnotationAcceptEmptyDatabase, "no database is lost, and the value is not a deployment id of this object; remove it")
	}
	return ignored
}

// setAnnotationIgnored sets the condition AnnotationIgnored, or removes it if no annotation is
// ignored.
func setAnnotationIgnored(s *scope, status *v1alpha1.SecureNotesStatus) {
	ignored := ignoredAnnotations(s)
	if len(ignored) == 0 {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionAnnotationIgnored)
		return
	}
	setCondition(s.sn, status, v1alpha1.ConditionAnnotationIgnored,
		finding{metav1.ConditionTrue, v1alpha1.ReasonInvalidValue, strings.Join(ignored, "; ")})
}
