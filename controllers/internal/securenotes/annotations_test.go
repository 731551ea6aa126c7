package securenotes

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// TestAnnotationIgnored: an annotation whose value the operator does not understand causes a
// condition and an event. A valid value does not.
func TestAnnotationIgnored(t *testing.T) {
	t.Parallel()
	lost := bad(v1alpha1.ReasonDatabaseLost, "gone")
	for name, tc := range map[string]struct {
		annotation, value string
		database          finding
		accepted          int
		want              string
	}{
		"none":                                    {},
		"Vault abandoned":                         {annotation: v1alpha1.AnnotationAbandonVault, value: "true"},
		"Vault not abandoned":                     {annotation: v1alpha1.AnnotationAbandonVault, value: "false"},
		"Vault abandoned, invalid value":          {annotation: v1alpha1.AnnotationAbandonVault, value: "yes", want: `abandon-vault="yes" is ignored: the value must be "true"`},
		"Vault abandoned, empty value":            {annotation: v1alpha1.AnnotationAbandonVault, want: `the value must be "true"`},
		"backups given up":                        {annotation: v1alpha1.AnnotationDeleteDespiteBackups, value: "true"},
		"backups given up, invalid value":         {annotation: v1alpha1.AnnotationDeleteDespiteBackups, value: "all", want: `delete-despite-backups="all" is ignored: the value must be "true"`},
		"backups need versions, invalid value":    {annotation: v1alpha1.AnnotationTrimDespiteBackups, value: "true", want: `trim-despite-backups="true" is ignored: the value must be the number`},
		"a request":                               {annotation: v1alpha1.AnnotationRotateRequestedAt, value: strings.Repeat("x", 64)},
		"a request that is too long":              {annotation: v1alpha1.AnnotationRotateRequestedAt, value: strings.Repeat("x", 65), want: "at most 64 characters"},
		"an empty database, accepted":             {annotation: v1alpha1.AnnotationAcceptEmptyDatabase, value: "id", database: lost},
		"an empty database, another value":        {annotation: v1alpha1.AnnotationAcceptEmptyDatabase, value: "true", database: lost, want: `accept-empty-database="true" is ignored: the value must be "id"`},
		"an empty database, used up":              {annotation: v1alpha1.AnnotationAcceptEmptyDatabase, value: "id", database: lost, accepted: 1, want: `the value must be "id/2"`},
		"an empty database, used up and not lost": {annotation: v1alpha1.AnnotationAcceptEmptyDatabase, value: "id", accepted: 1},
		"an empty database, not lost":             {annotation: v1alpha1.AnnotationAcceptEmptyDatabase, value: "yes", want: "no database is lost"},
	} {
		t.Run(name, func(t *testing.T) {
			sn := &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "demo"}}
			if tc.annotation != "" {
				sn.Annotations = map[string]string{tc.annotation: tc.value}
			}
			s := newScope(sn, operand.Environment{}, time.Unix(0, 0))
			s.env.DeploymentID, s.database, s.databaseFinding = "id", &vaultadmin.DatabaseState{Accepted: tc.accepted}, tc.database
			status := computeStatus(s)
			got := ""
			if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAnnotationIgnored); c != nil {
				got = c.Message
			}
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("condition %q, want %q", got, tc.want)
			}
			recorder := events.NewFakeRecorder(20)
			(&Reconciler{Recorder: recorder}).announce(t.Context(), s, status.Conditions)
			close(recorder.Events)
			warned := false
			for event := range recorder.Events {
				warned = warned || strings.HasPrefix(event, corev1.EventTypeWarning) && strings.Contains(event, v1alpha1.ConditionAnnotationIgnored)
			}
			if warned != (tc.want != "") {
				t.Errorf("a Warning event: %v", warned)
			}
		})
	}
	t.Run("corrected", func(t *testing.T) {
		sn := &v1alpha1.SecureNotes{}
		sn.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAnnotationIgnored, Status: metav1.ConditionTrue}}
		if meta.FindStatusCondition(computeStatus(newScope(sn, operand.Environment{}, time.Unix(0, 0))).Conditions, v1alpha1.ConditionAnnotationIgnored) != nil {
			t.Error("the condition stays when no annotation is ignored")
		}
	})
}
