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
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// pods reads what the pods of the service report. The operator may not read Secrets, so only the
// pods can say why a database or a certificate does not work.
func (r *Reconciler) pods(ctx context.Context, s *scope) error {
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list, client.InNamespace(s.sn.Namespace), client.MatchingLabels(operand.Selector(s.sn))); err != nil {
		return err
	}
	s.report = new(readPods(list.Items, r.lookups.Live(ctx, r.Live, r.Now, s.sn.UID), s.now))
	if s.deployment != nil && s.report.unready {
		s.retry("neither the events of a pod nor its answers are watched")
	}
	if s.sn.Spec.TLS.SecretRef != nil && s.ofThisSpec(secretFinding(s.sn, *s.report)).status == metav1.ConditionTrue {
		r.readServed(ctx, s, list.Items)
	}
	return nil
}

// podReport is what the newest pods report.
type podReport struct {
	// termination is the termination message of the newest unready pod that has one.
	termination *config.Termination
	// cause is why the newest unready pod is not ready.
	cause cause.Cause
	// migrated is true if the newest pod has prepared its database; ready, if a pod is ready;
	// unready, if no pod is ready or one is not.
	migrated, ready, unready bool
}

// maxUnready bounds the unready pods whose causes are read, newest first. Anyone who may create
// pods can create many with the labels of the service.
const maxUnready = 10

func readPods(pods []corev1.Pod, lookup cause.Lookup, now time.Time) podReport {
	// An evicted pod remains, and its last message is outdated.
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
		// An older pod says nothing about the new ones that replace it.
		if report.cause.Known() && report.termination != nil || unready > maxUnready {
			continue
		}
		found := cause.OfPod(&pod, lookup, now)
		if !report.cause.Known() {
			report.cause = found
		}
		if report.cause.Known() {
			lookup.Events = nil // only a termination message is still missing, which no event has
		}
		if report.termination == nil {
			report.termination = found.Reported
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

// ofDatabase reports whether a termination reason is about the database or its contents.
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

// databaseNextStep returns the next step, in the form of an addition to a message. There is none if
// the message itself names it.
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
		return fmt.Sprintf(": restore the database from a backup, correct the URI in Secret %s if it names another database, or grant its user access to the tables", ref.Name)
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
		return ": check the connection and the role in Vault's database engine; see docs/database-credentials.md"
	}
	return ""
}

// databaseName names the database without its URI, which is secret.
func databaseName(sn *v1alpha1.SecureNotes) string {
	if operand.IsEmbedded(sn) {
		return "embedded database on PersistentVolumeClaim " + operand.ClaimName(sn.Name)
	}
	ref := sn.Spec.Database.Postgres.URISecretRef
	return fmt.Sprintf("spec.database.postgres.uriSecretRef: Secret %s, key %s", ref.Name, ref.Key)
}

func workloadFinding(s *scope, report podReport) finding {
	if f := childTrouble(s); f.known() {
		return f
	}
	d := s.deployment
	if d == nil {
		return unknown(v1alpha1.ReasonProgressing, "the Deployment does not exist yet")
	}
	want := operand.Replicas(s.sn)
	st := d.Status
	if s.settled() {
		return good(v1alpha1.ReasonReady, fmt.Sprintf("%d of %d replicas are available", st.AvailableReplicas, want))
	}
	message := progress(st, want)
	if c := cause.OfDeployment(d); c.Known() {
		// A cause that prevents pods comes before the fault of an existing pod.
		if c.Reason == v1alpha1.ReasonQuotaExceeded && st.Replicas > st.UpdatedReplicas {
			message += "; an update needs quota for one more pod"
		}
		return bad(c.Reason, fmt.Sprintf("%s: %s. Kubernetes tries again within 15 minutes, or at once after `kubectl rollout restart deployment %s`",
			message, c, s.sn.Name))
	}
	if s.lacksCertificate(report.cause) {
		return bad(v1alpha1.ReasonProgressing, message+": "+certificateWait(s, report.cause))
	}
	if report.cause.Known() {
		return bad(report.cause.Reason, message+": "+report.cause.String())
	}
	return bad(v1alpha1.ReasonProgressing, message)
}

// progress says how many replicas are available. An update removes no old pod before a new one is
// available, so the available ones count as old ones first.
func progress(st appsv1.DeploymentStatus, want int32) string {
	older := max(0, st.Replicas-st.UpdatedReplicas)
	available := min(older, st.AvailableReplicas)
	message := fmt.Sprintf("%d of %d replicas of the current configuration are available", min(want, st.UpdatedReplicas, st.AvailableReplicas-available), want)
	switch {
	case available == 1:
		message += ", and 1 of the previous configuration still is"
	case available > 1:
		message += fmt.Sprintf(", and %d of the previous configuration still are", available)
	case older > 0:
		message += fmt.Sprintf(", and pods of the previous configuration still run: %d", older)
	case st.Replicas > want:
		message += fmt.Sprintf(", and pods that are no longer needed still run: %d", st.Replicas-want)
	}
	return message
}

// lacksCertificate reports whether a pod does not start because the Secret of cert-manager's
// certificate is missing.
func (s *scope) lacksCertificate(c cause.Cause) bool {
	secret := operand.TLSSecretName(s.sn, s.env)
	return s.sn.Spec.TLS.CertManager != nil && c.Reason == v1alpha1.ReasonPodNotStarted && strings.Contains(c.Message, fmt.Sprintf("secret %q not found", secret))
}

// certificateWait says how long pods wait for the Secret of cert-manager's certificate.
func certificateWait(s *scope, c cause.Cause) string {
	secret := operand.TLSSecretName(s.sn, s.env)
	if certificateReady(s).status == metav1.ConditionTrue {
		return fmt.Sprintf("%s. Secret %s exists now: the kubelet tries again within about two minutes", c.Message, secret)
	}
	return fmt.Sprintf("pods wait for Secret %s, which cert-manager writes: see the condition CertificateReady", secret)
}
