//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestBeforeSetup: without set-up in Vault, a condition shows the command to run, and heals once it
// has run.
func TestBeforeSetup(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{ownVault: true, notSetUp: true})
	sn := postgresNotes(namespace, "notes")
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonSetupMissing)
	if want := "operator vault-setup --cluster-id " + c.id; !strings.Contains(message, want) {
		t.Errorf("the condition does not show the command %q: %s", want, message)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSetupMissing)
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionWorkloadReady, metav1.ConditionFalse, v1alpha1.ReasonWaitingForVault)
	c.setUpVault(t)
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

// TestSetupCanBeRepeated: a second vault-setup changes nothing. One for another cluster at the same
// auth mount is rejected before it changes anything.
func TestSetupCanBeRepeated(t *testing.T) {
	t.Parallel()
	c, _ := shared(t)
	out := c.setUpVault(t)
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		if !strings.Contains(line, "as it should be") && !strings.Contains(line, "exists") && !strings.HasPrefix(line, "Done") {
			t.Errorf("a second vault-setup changed something: %s", line)
		}
	}
	other := c.setup()
	other.ClusterID = "other"
	var printed bytes.Buffer
	if err := other.Apply(t.Context(), c.vault.Client(t), &printed, false); err == nil || !strings.Contains(err.Error(), "--auth-mount") {
		t.Errorf("another cluster at the same auth mount: %v", err)
	}
	if strings.Contains(printed.String(), "policy") {
		t.Errorf("it changed something first: %s", printed.String())
	}
}

// TestSettled: a settled object causes no write, and drift is corrected. Its backups are scheduled,
// and none is due.
func TestSettled(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	sn.Spec.Backup = volumeBackup()
	sn.Spec.Backup.Schedule = "0 0 29 2 *"
	c.ready(t, sn)
	if sn.Status.DeploymentID != string(sn.UID) || sn.Status.MasterKey.LatestVersion != 1 || sn.Status.URL != "https://notes."+namespace+".svc" {
		t.Errorf("status: %+v", sn.Status)
	}
	// The operator may still write what the last steps caused.
	await(t, "the operator to write nothing for a while", func() string {
		c.writes.take(namespace)
		if !consistently(2*time.Second, func() bool { return len(c.writes.seenIn(namespace)) == 0 }) {
			return fmt.Sprint(c.writes.seenIn(namespace))
		}
		return ""
	})
	// No event may make the operator write: here, a foreign annotation.
	for i := range 3 {
		before := sn.DeepCopy()
		sn.Annotations = map[string]string{"example.com/poke": fmt.Sprint(i)}
		if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		if !consistently(500*time.Millisecond, func() bool { return len(c.writes.seenIn(namespace)) == 0 }) {
			t.Errorf("a settled object caused writes: %v", c.writes.take(namespace))
		}
	}
	t.Run("drift is put back", func(t *testing.T) {
		service := &corev1.Service{}
		key := client.ObjectKey{Namespace: namespace, Name: "notes"}
		if err := c.Get(t.Context(), key, service); err != nil {
			t.Fatal(err)
		}
		before := service.DeepCopy()
		service.Spec.Selector["app.kubernetes.io/instance"] = "somebody-else"
		delete(service.Labels, operand.LabelManagedBy)
		if err := c.Patch(t.Context(), service, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		await(t, "the Service", func() string {
			if err := c.Get(context.Background(), key, service); err != nil {
				return err.Error()
			}
			if service.Spec.Selector["app.kubernetes.io/instance"] != "notes" || service.Labels[operand.LabelManagedBy] != operand.ManagedBy {
				return fmt.Sprint(service.Spec.Selector, service.Labels)
			}
			return ""
		})
	})
	t.Run("what others write costs nothing", func(t *testing.T) { testOthersWrites(t, c, namespace) })
	t.Run("the Service keeps the addresses of clients", func(t *testing.T) { testTrafficPolicy(t, c, sn) })
	t.Run("load balancer", func(t *testing.T) { testLoadBalancer(t, c, sn) })
	t.Run("a renewed certificate restarts nothing", func(t *testing.T) {
		generation := c.deployment(t, namespace, "notes").Generation
		c.issue(t, namespace, "notes")
		if !consistently(time.Second, func() bool { return c.deployment(t, namespace, "notes").Generation == generation }) {
			t.Errorf("the Deployment went from generation %d to %d", generation, c.deployment(t, namespace, "notes").Generation)
		}
	})
}

// testTrafficPolicy: the traffic policy follows the spec, drift is corrected, and it is removed
// with the Service types that have one.
func testTrafficPolicy(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: sn.Name}}
	awaitPolicy := func(step string, wanted corev1.ServiceType, want corev1.ServiceExternalTrafficPolicy) {
		t.Helper()
		await(t, step, func() string {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(service), service); err != nil {
				return err.Error()
			}
			if service.Spec.Type != wanted || service.Spec.ExternalTrafficPolicy != want {
				return fmt.Sprintf("a Service of type %s with externalTrafficPolicy %q", service.Spec.Type, service.Spec.ExternalTrafficPolicy)
			}
			return ""
		})
	}
	for _, tc := range []struct {
		step   string
		wanted *v1alpha1.Service
		want   corev1.ServiceExternalTrafficPolicy
	}{
		{step: "a load balancer", wanted: &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer}, want: "Local"},
		{step: "a load balancer on every node", wanted: &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: "Cluster"}, want: "Cluster"},
		{step: "a port of the nodes", wanted: &v1alpha1.Service{Type: corev1.ServiceTypeNodePort}, want: "Local"},
	} {
		before := sn.DeepCopy()
		sn.Spec.Service = tc.wanted
		if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		awaitPolicy(tc.step, tc.wanted.Type, tc.want)
	}
	before := service.DeepCopy()
	service.Spec.ExternalTrafficPolicy = "Cluster"
	if err := c.Patch(t.Context(), service, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	awaitPolicy("drift", corev1.ServiceTypeNodePort, "Local")
	unset := sn.DeepCopy()
	sn.Spec.Service = nil
	if err := c.Patch(t.Context(), sn, client.MergeFrom(unset)); err != nil {
		t.Fatal(err)
	}
	awaitPolicy("inside the cluster again", corev1.ServiceTypeClusterIP, "")
}

func (c *cluster) deployment(t *testing.T, namespace, name string) *appsv1.Deployment {
	t.Helper()
	deployment := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, deployment); err != nil {
		t.Fatal(err)
	}
	return deployment
}

// TestConditions: each fault names the object, and heals by itself.
func TestConditions(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	t.Run("missing issuer", func(t *testing.T) {
		sn := postgresNotes(namespace, "issuer")
		sn.Spec.TLS.CertManager.IssuerRef = v1alpha1.IssuerReference{Name: "nobody", Kind: "ClusterIssuer"}
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, namespace, "issuer", v1alpha1.ConditionCertificateReady, metav1.ConditionFalse, v1alpha1.ReasonIssuerNotFound)
		if !strings.Contains(message, "ClusterIssuer nobody does not exist: create it, or change spec.tls.certManager.issuerRef") {
			t.Error(message)
		}
	})
	t.Run("unknown Vault connection", func(t *testing.T) {
		sn := postgresNotes(namespace, "connection")
		sn.Spec.VaultConnection = "elsewhere"
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, namespace, "connection", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonUnknownVaultConnection)
		if !strings.Contains(message, `"elsewhere"`) || !strings.Contains(message, "vaultConnections") {
			t.Error(message)
		}
		c.awaitCondition(t, namespace, "connection", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonUnknownVaultConnection)
	})
	t.Run("unreachable Vault", func(t *testing.T) {
		sn := postgresNotes(namespace, "away")
		sn.Spec.VaultConnection = "away"
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, namespace, "away", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultUnreachable)
		if !strings.Contains(message, "https://127.0.0.1:1") {
			t.Error(message)
		}
	})
	t.Run("name conflict", func(t *testing.T) {
		foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "conflict-config"}, Data: map[string]string{"a": "b"}}
		if err := c.Create(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), postgresNotes(namespace, "conflict")); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, namespace, "conflict", v1alpha1.ConditionWorkloadReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
		if !strings.Contains(message, "ConfigMap conflict-config already exists and has no owner") {
			t.Error(message)
		}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign); err != nil || len(foreign.Data) != 1 || len(foreign.OwnerReferences) != 0 {
			t.Errorf("the foreign ConfigMap was touched: %v %+v", err, foreign)
		}
		if err := c.Delete(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}
		await(t, "the ConfigMap of our own", func() string {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(foreign), foreign); err != nil {
				return err.Error()
			}
			if len(foreign.OwnerReferences) == 0 {
				return "it has no owner"
			}
			return ""
		})
	})
	t.Run("database", func(t *testing.T) { testDatabaseFaults(t, c, namespace) })
	t.Run("pods that the API server refuses", func(t *testing.T) {
		sn := postgresNotes(namespace, "refused")
		sn.Spec.PodTemplate = &v1alpha1.PodTemplate{Labels: map[string]string{"team": "no spaces allowed"}}
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, namespace, "refused", v1alpha1.ConditionWorkloadReady, metav1.ConditionFalse, v1alpha1.ReasonApplyFailed)
		if !strings.Contains(message, "Deployment") || !strings.Contains(message, "spec.template") {
			t.Error(message)
		}
	})
	t.Run("schedule", func(t *testing.T) {
		sn := postgresNotes(namespace, "schedule")
		sn.Spec.KeyRotation.Schedule = "whenever"
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, namespace, "schedule", v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionFalse, v1alpha1.ReasonInvalidSchedule)
		if !strings.Contains(message, "spec.keyRotation.schedule") {
			t.Error(message)
		}
	})
}

func testDatabaseFaults(t *testing.T, c *cluster, namespace string) {
	if err := c.Create(t.Context(), postgresNotes(namespace, "database")); err != nil {
		t.Fatal(err)
	}
	c.issue(t, namespace, "database")
	var deployment *appsv1.Deployment
	await(t, "the Deployment", func() string {
		deployment = &appsv1.Deployment{}
		return text(c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: "database"}, deployment))
	})
	pod := c.pod(t, deployment, 0)
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name:  operand.MigrateContainer,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 1, Message: `{"reason":"DatabaseUnreachable","message":"no answer from db.example.com:5432"}`,
		}},
	}}
	if err := c.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, "database", v1alpha1.ConditionDatabaseReady, metav1.ConditionFalse, config.ReasonDatabaseUnreachable)
	if !strings.Contains(message, "db.example.com") || !strings.Contains(message, "Secret database, key uri") {
		t.Error(message)
	}
	c.awaitReady(t, namespace, "database")
}

// TestDeletion: Retain keeps the keys, which only adoption gives back. Delete destroys them. A lost
// Vault does not prevent a deletion forever.
func TestDeletion(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{clusterID: "deletion"})
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	key := config.TransitKeyName(c.id, namespace, "notes")
	c.deleted(t, sn)
	if !c.keyExists(t, key) {
		t.Fatal("Retain did not keep the key")
	}
	first := sn.Status.DeploymentID

	again := postgresNotes(namespace, "notes")
	if err := c.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRetained)
	if !strings.Contains(message, "spec.adoptRetainedKey") {
		t.Error(message)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(again), again); err != nil {
		t.Fatal(err)
	}
	before := again.DeepCopy()
	again.Spec.AdoptRetainedKey, again.Spec.DeletionPolicy = new(true), v1alpha1.DeletionPolicyDelete
	if err := c.Patch(t.Context(), again, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	await(t, "deploymentID", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(again), again); err != nil {
			return err.Error()
		}
		if again.Status.DeploymentID != first {
			return "is " + again.Status.DeploymentID + ", not the first object's " + first
		}
		return ""
	})
	c.deleted(t, again)
	if c.keyExists(t, key) {
		t.Error("Delete did not destroy the key")
	}
	c.hasValues(t, again)
	t.Run("the next of the name", func(t *testing.T) { testAfterShred(t, c, namespace) })

	gone := postgresNotes(namespace, "abandoned")
	gone.Spec.VaultConnection, gone.Spec.DeletionPolicy = "away", v1alpha1.DeletionPolicyDelete
	if err := c.Create(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	c.awaitCondition(t, namespace, "abandoned", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultUnreachable)
	if err := c.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	await(t, "the way out", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(gone), gone); err != nil {
			return err.Error()
		}
		condition := meta.FindStatusCondition(gone.Status.Conditions, v1alpha1.ConditionVaultReady)
		if !strings.Contains(condition.Message, v1alpha1.AnnotationAbandonVault) {
			return condition.Message
		}
		return ""
	})
	before = gone.DeepCopy()
	gone.Annotations = map[string]string{v1alpha1.AnnotationAbandonVault: "true"}
	if err := c.Patch(t.Context(), gone, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.awaitGone(t, gone)
}

// TestEmbedded: with Retain the volume outlives the object. A new object gets it only by adoption,
// and Delete deletes it.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	small := func() *v1alpha1.SecureNotes {
		sn := postgresNotes(namespace, "notes")
		sn.Spec.Database = nil
		return sn
	}
	sn := small()
	c.ready(t, sn)
	claim := &corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: namespace, Name: operand.ClaimName("notes")}
	if err := c.Get(t.Context(), key, claim); err != nil || len(claim.OwnerReferences) != 0 {
		t.Fatalf("%v, owners %v", err, claim.OwnerReferences)
	}
	if d := c.deployment(t, namespace, "notes"); *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("Deployment: %+v", d.Spec)
	}
	c.deleted(t, sn)
	if err := c.Get(t.Context(), key, claim); err != nil || claim.DeletionTimestamp != nil {
		t.Fatalf("Retain did not keep the volume: %v", err)
	}
	again := small()
	again.Spec.AdoptRetainedKey, again.Spec.DeletionPolicy = new(true), v1alpha1.DeletionPolicyDelete
	c.ready(t, again)
	c.deleted(t, again)
	// The API server keeps a claim until a controller, which does not run here, removes its
	// finalizer.
	if err := c.Get(t.Context(), key, claim); !apierrors.IsNotFound(err) && claim.DeletionTimestamp == nil {
		t.Errorf("Delete did not delete the volume: %v", err)
	}
}

func (c *cluster) deleted(t *testing.T, object client.Object) {
	t.Helper()
	if err := c.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	c.awaitGone(t, object)
	// No garbage collector runs here.
	for _, child := range []client.Object{
		&corev1.ConfigMap{}, &corev1.Service{}, &corev1.ServiceAccount{}, &appsv1.Deployment{}, &corev1.Pod{},
	} {
		if err := c.DeleteAllOf(t.Context(), child, client.InNamespace(object.GetNamespace()),
			client.MatchingLabels{operand.LabelInstance: object.GetName()}); err != nil {
			t.Fatal(err)
		}
	}
	for _, child := range orphans(object) {
		if err := client.IgnoreNotFound(c.Delete(t.Context(), child)); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) awaitGone(t *testing.T, object client.Object) {
	t.Helper()
	await(t, object.GetName()+" to be gone", func() string {
		err := c.Get(context.Background(), client.ObjectKeyFromObject(object), object.DeepCopyObject().(client.Object))
		if apierrors.IsNotFound(err) {
			return ""
		}
		return "it still exists"
	})
}

func (c *cluster) keyExists(t *testing.T, key string) bool {
	t.Helper()
	secret, err := c.vault.Client(t).Logical().Read("transit/keys/" + key)
	if err != nil {
		t.Fatal(err)
	}
	return secret != nil
}

// TestSealedVault: a sealed Vault is reported in a condition, the service is not changed, and the
// condition heals.
func TestSealedVault(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{ownVault: true})
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	c.vault.Seal(t)
	before := sn.DeepCopy()
	// A change of the spec makes the operator check Vault before the next resync.
	sn.Spec.Auth = &v1alpha1.Auth{TokenTTL: "2h"}
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultSealed)
	if !strings.Contains(message, "is sealed") {
		t.Error(message)
	}
	await(t, "the configuration to change", func() string {
		cm := &corev1.ConfigMap{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: "notes-config"}, cm); err != nil {
			return err.Error()
		}
		if !strings.Contains(cm.Data["api.yaml"], "tokenTTL: 2h") {
			return cm.Data["api.yaml"]
		}
		return ""
	})
	c.vault.Unseal(t)
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}
