package securenotes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// pods reads what the service's own pods report. The operator has no right to read Secrets, so only
// the pods can say what is wrong with a database.
func (r *Reconciler) pods(ctx context.Context, s *scope) error {
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list, client.InNamespace(s.sn.Namespace), client.MatchingLabels(operand.Selector(s.sn))); err != nil {
		return err
	}
	report := readPods(list.Items, r.looks.Live(ctx, r.Live, r.Now, s.sn.UID), s.now)
	if s.deployment != nil && report.unready {
		s.wake(jitter.Longer(retryInterval)) // neither events nor what a pod answers is watched
	}
	if s.sn.Spec.TLS.SecretRef != nil {
		s.certificateFinding = r.fromSecret(ctx, s, list.Items, s.ofThisSpec(secretFinding(s.sn, report)))
	}
	s.judge(report)
	return nil
}

// judge says of database and workload what the pods do, unless more is known. While the Deployment
// says that every replica answers, no pod that is not ready is one of them: anyone who may create
// pods can give one our labels, and have it say anything.
func (s *scope) judge(report podReport) {
	if s.settled() {
		report.termination, report.cause = nil, cause.Cause{}
	}
	if !s.databaseFinding.known() {
		s.databaseFinding = s.opened(databaseFinding(s.sn, report))
	}
	if !s.workloadFinding.known() {
		s.workloadFinding = s.withMetrics(s.withAddress(s.ofThisSpec(workloadFinding(s, report))))
	}
}

// podReport is what the newest pods say.
type podReport struct {
	// termination is what the service said in the newest pod that is not ready and has words of it.
	termination *config.Termination
	// cause is why the newest pod that is not ready is not.
	cause cause.Cause
	// migrated says that the newest pod has prepared its database; ready, that one pod answers;
	// unready, that none does, or one does not.
	migrated, ready, unready bool
}

// maxUnready is how many pods that are not ready are asked why, the newest of them. Anyone may
// create pods of the service's labels.
const maxUnready = 10

func readPods(pods []corev1.Pod, look cause.Look, now time.Time) podReport {
	// A pod that was evicted stays behind, and what it said last is of long ago.
	pods = slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
	})
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		if c := b.CreationTimestamp.Compare(a.CreationTimestamp.Time); c != 0 {
			return c
		}
		return cmp.Compare(a.Name, b.Name)
	})
	report := podReport{unready: len(pods) == 0}
	unready := 0
	for i, pod := range pods {
		report.migrated = report.migrated || (i == 0 && prepared(&pod))
		ready := isReady(&pod)
		report.ready = report.ready || ready
		if ready {
			continue
		}
		report.unready = true
		unready++
		// An older pod that an update replaces says nothing about the new one.
		if report.cause.Known() && report.termination != nil || unready > maxUnready {
			continue
		}
		found := cause.OfPod(&pod, look, now)
		if !report.cause.Known() {
			report.cause = found
		}
		if report.cause.Known() {
			look.Events = nil // the service's own words are still looked for; events do not have them
		}
		if report.termination == nil {
			report.termination = found.Said
		}
	}
	return report
}

func isReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// prepared reports whether the pod has prepared its database.
func prepared(pod *corev1.Pod) bool {
	for _, status := range pod.Status.InitContainerStatuses {
		if status.Name == operand.MigrateContainer {
			return status.State.Terminated != nil && status.State.Terminated.ExitCode == 0
		}
	}
	return false
}

// ofDatabase says whether a service's reason is about its database or what is in it.
func ofDatabase(reason string) bool {
	return strings.HasPrefix(reason, "Database") || reason == config.ReasonMigrationFailed || reason == config.ReasonKeyMismatch
}

func databaseFinding(sn *v1alpha1.SecureNotes, report podReport) finding {
	switch {
	case report.termination != nil && ofDatabase(report.termination.Reason):
		return bad(report.termination.Reason, report.termination.Message+" ("+databaseName(sn)+")"+databaseNextStep(sn, report.termination))
	case report.ready:
		return good(v1alpha1.ReasonReady, "the service has opened its database")
	case report.migrated:
		return unknown(v1alpha1.ReasonNotReady, "the database is prepared, but no pod answers yet ("+databaseName(sn)+")")
	default:
		return unknown(v1alpha1.ReasonProgressing, "no pod has reported yet ("+databaseName(sn)+")")
	}
}

// databaseNextStep says what to do; empty where the message does.
func databaseNextStep(sn *v1alpha1.SecureNotes, t *config.Termination) string {
	if operand.IsEmbedded(sn) {
		if t.Reason == config.ReasonDatabaseLost {
			return ": restore the file on the volume, or the volume, from a backup"
		}
		return ""
	}
	ref := sn.Spec.Database.Postgres.URISecretRef
	switch {
	case t.Reason == config.ReasonDatabaseLost:
		return fmt.Sprintf(": restore the database from a backup, correct the URI in Secret %s if it names another one, or give its user the right to see its tables", ref.Name)
	case t.Reason == config.ReasonDatabaseSecretMissing && strings.Contains(t.Message, "CA file"):
		return ": create the Secret that spec.database.postgres.caSecretRef names, with the PEM certificates of the database's authority"
	case t.Reason == config.ReasonDatabaseSecretMissing:
		return fmt.Sprintf(": create Secret %s with key %s, postgres://USER:PASSWORD@HOST:5432/DATABASE", ref.Name, ref.Key)
	case strings.Contains(t.Message, "unknown authority"):
		return ": set spec.database.postgres.caSecretRef to the certificates of the database's authority"
	case t.Reason == config.ReasonDatabaseUnreachable:
		return ": check the host and the port in the Secret, and that the pods can reach them"
	case t.Reason == config.ReasonDatabaseAuthenticationFailed && operand.UsesVaultCredentials(sn):
		return ": check the creation_statements of the role in Vault's database engine"
	case t.Reason == config.ReasonDatabaseLoginMissing:
		return ": check the connection and the role in Vault's database engine; docs/database-credentials.md says what they must be"
	}
	return ""
}

// databaseName says where to look, in names only.
func databaseName(sn *v1alpha1.SecureNotes) string {
	if operand.IsEmbedded(sn) {
		return "embedded database on PersistentVolumeClaim " + operand.ClaimName(sn.Name)
	}
	ref := sn.Spec.Database.Postgres.URISecretRef
	return fmt.Sprintf("spec.database.postgres.uriSecretRef: Secret %s, key %s", ref.Name, ref.Key)
}

func workloadFinding(s *scope, report podReport) finding {
	if s.childTrouble.known() {
		return s.childTrouble
	}
	d := s.deployment
	if d == nil {
		return unknown(v1alpha1.ReasonProgressing, "the Deployment is not there yet")
	}
	want := operand.Replicas(s.sn)
	st := d.Status
	if s.settled() {
		return good(v1alpha1.ReasonReady, fmt.Sprintf("%d of %d replicas answer", st.AvailableReplicas, want))
	}
	message := progress(st, want)
	if c := cause.OfDeployment(d); c.Known() {
		// What keeps pods from being made is deeper than what ails one that is there.
		if c.Reason == v1alpha1.ReasonQuotaExceeded && st.Replicas > st.UpdatedReplicas {
			message += "; an update needs room for one more pod"
		}
		return bad(c.Reason, fmt.Sprintf("%s: %s. Kubernetes tries again within a quarter of an hour, or at once after `kubectl rollout restart deployment %s`",
			message, c, s.sn.Name))
	}
	if wait := s.certificateWait(report.cause); wait != "" {
		return bad(v1alpha1.ReasonProgressing, message+": "+wait)
	}
	if report.cause.Known() {
		return bad(report.cause.Reason, message+": "+report.cause.String())
	}
	return bad(v1alpha1.ReasonProgressing, message)
}

// progress says how many pods answer. An update takes no old pod away before a new one answers, so
// those that answer are counted as old ones first.
func progress(st appsv1.DeploymentStatus, want int32) string {
	older := max(0, st.Replicas-st.UpdatedReplicas)
	answering := min(older, st.AvailableReplicas)
	message := fmt.Sprintf("%d of %d replicas of the current configuration answer", min(want, st.UpdatedReplicas, st.AvailableReplicas-answering), want)
	switch {
	case answering == 1:
		message += ", and 1 of the previous configuration still does"
	case answering > 1:
		message += fmt.Sprintf(", and %d of the previous configuration still do", answering)
	case older > 0:
		message += fmt.Sprintf(", with %d of the previous configuration still to stop", older)
	case st.Replicas > want:
		message += fmt.Sprintf(", with %d more still to stop", st.Replicas-want)
	}
	return message
}

// certificateWait says of pods that lack the Secret of cert-manager's certificate how long they do;
// empty: that is not what they lack.
func (s *scope) certificateWait(c cause.Cause) string {
	secret := operand.TLSSecretName(s.sn, s.env)
	if s.sn.Spec.TLS.CertManager == nil || c.Reason != v1alpha1.ReasonPodNotStarted || !strings.Contains(c.Message, fmt.Sprintf("secret %q not found", secret)) {
		return ""
	}
	if s.certificateFinding.status == metav1.ConditionTrue {
		return fmt.Sprintf("%s. Secret %s is there by now: the kubelet tries again within about two minutes", c.Message, secret)
	}
	return fmt.Sprintf("pods wait for Secret %s, which cert-manager writes: see the condition CertificateReady", secret)
}
