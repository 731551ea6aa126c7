//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
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

// TestOperator starts one API server and one Vault for all of its parts; each part has a namespace
// of its own.
func TestOperator(t *testing.T) {
	c := startCluster(t)
	c.startOperator(t)
	t.Run("before set-up", func(t *testing.T) { testBeforeSetup(t, c) })
	t.Run("admission", func(t *testing.T) { testAdmission(t, c) })
	t.Run("set-up can be repeated", func(t *testing.T) { testSetupRepeats(t, c) })
	t.Run("set-up takes nothing away", func(t *testing.T) { testSetupTakesNothing(t, c) })
	t.Run("hung Vault", func(t *testing.T) { testHungVault(t, c) })
	t.Run("escapes", func(t *testing.T) { testEscapes(t, c) })
	t.Run("policy", func(t *testing.T) { testPolicy(t, c) })
	t.Run("chart", func(t *testing.T) { testChart(t, c) })
	t.Run("settled", func(t *testing.T) { testSettled(t, c) })
	t.Run("certificate Secret", func(t *testing.T) { testCertificateSecret(t, c) })
	t.Run("certificate names", func(t *testing.T) { testCertificateNames(t, c) })
	t.Run("conditions", func(t *testing.T) { testConditions(t, c) })
	t.Run("causes", func(t *testing.T) { testCauses(t, c) })
	t.Run("new spec", func(t *testing.T) { testNewSpec(t, c) })
	t.Run("suspended", func(t *testing.T) { testSuspended(t, c) })
	t.Run("rotation", func(t *testing.T) { testRotation(t, c) })
	t.Run("failed rotation", func(t *testing.T) { testFailedRotation(t, c) })
	t.Run("compromise", func(t *testing.T) { testCompromise(t, c) })
	t.Run("previous release", func(t *testing.T) { testPreviousRelease(t, c) })
	t.Run("planted pepper", func(t *testing.T) { testPlantedPepper(t, c) })
	t.Run("database credentials", func(t *testing.T) { testDatabaseCredentials(t, c) })
	t.Run("trim", func(t *testing.T) { testTrim(t, c) })
	t.Run("requests", func(t *testing.T) { testRequests(t, c) })
	t.Run("removed rotation", func(t *testing.T) { testRemovedRotation(t, c) })
	t.Run("request of before", func(t *testing.T) { testRequestOfBefore(t, c) })
	t.Run("versions by hand", func(t *testing.T) { testVersionsByHand(t, c) })
	t.Run("missing key", func(t *testing.T) { testMissingKey(t, c) })
	t.Run("two operators", func(t *testing.T) { testTwoOperators(t, c) })
	t.Run("embedded", func(t *testing.T) { testEmbedded(t, c) })
	t.Run("scale", func(t *testing.T) { testScale(t, c) })
	t.Run("volume size", func(t *testing.T) { testVolumeSize(t, c) })
	t.Run("beside the volume", func(t *testing.T) { testBesideVolume(t, c) })
	t.Run("spread", func(t *testing.T) { testSpread(t, c) })
	t.Run("lost volume", func(t *testing.T) { testLostVolume(t, c) })
	t.Run("lost PostgreSQL", func(t *testing.T) { testLostPostgres(t, c) })
	t.Run("lost keys", func(t *testing.T) { testLostKeys(t, c) })
	t.Run("deletion", func(t *testing.T) { testDeletion(t, c) })
	t.Run("old key", func(t *testing.T) { testOldKey(t, c) })
	t.Run("recreated namespace", func(t *testing.T) { testRecreatedNamespace(t, c) })
	t.Run("restored objects", func(t *testing.T) { testRestoredObjects(t, c) })
	t.Run("hung Vault is told of", func(t *testing.T) { testHungVaultIsToldOf(t, c) })
	t.Run("memory", func(t *testing.T) { testMemory(t, c) })
	t.Run("restored Vault", func(t *testing.T) { testRestoredVault(t, c) })
	t.Run("sealed", func(t *testing.T) { testSealed(t, c) })
	t.Run("lost cluster", func(t *testing.T) { testLostCluster(t, c) })
}

// testBeforeSetup: a Vault without set-up is a condition with the command to run; it heals once the
// command has run. The object stays for the parts that follow.
func testBeforeSetup(t *testing.T, c *cluster) {
	c.namespace(t, "early")
	sn := postgresNotes("early", "notes")
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, "early", "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonSetupMissing)
	if want := "operator vault-setup --cluster-id " + c.id; !strings.Contains(message, want) {
		t.Errorf("the condition does not show the command %q: %s", want, message)
	}
	c.awaitCondition(t, "early", "notes", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSetupMissing)
	c.awaitCondition(t, "early", "notes", v1alpha1.ConditionWorkloadReady, metav1.ConditionFalse, v1alpha1.ReasonWaitingForVault)
	c.setUpVault(t)
	c.awaitCondition(t, "early", "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

func testSetupRepeats(t *testing.T, c *cluster) {
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

// testSettled: a settled object costs no write, and what somebody changes is put back.
func testSettled(t *testing.T, c *cluster) {
	sn := postgresNotes("settled", "notes")
	c.ready(t, sn)
	if sn.Status.DeploymentID != string(sn.UID) || sn.Status.MasterKey.LatestVersion != 1 || sn.Status.URL != "https://notes.settled.svc" {
		t.Errorf("status: %+v", sn.Status)
	}
	time.Sleep(2 * time.Second)
	c.writes.take()
	// Whatever wakes the operator must not make it write: here, an annotation that is nobody's.
	for i := range 3 {
		before := sn.DeepCopy()
		sn.Annotations = map[string]string{"example.com/poke": fmt.Sprint(i)}
		if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	writes := slices.DeleteFunc(c.writes.take(), func(w string) bool { return !strings.Contains(w, "/settled/") })
	if len(writes) > 0 {
		t.Errorf("a settled object cost writes: %v", writes)
	}
	t.Run("drift is put back", func(t *testing.T) {
		service := &corev1.Service{}
		key := client.ObjectKey{Namespace: "settled", Name: "notes"}
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
	t.Run("what others write costs nothing", func(t *testing.T) { testOthersWrites(t, c) })
	t.Run("the Service keeps the addresses of clients", func(t *testing.T) { testTrafficPolicy(t, c, sn) })
	t.Run("load balancer", func(t *testing.T) { testLoadBalancer(t, c, sn) })
	t.Run("a renewed certificate restarts nothing", func(t *testing.T) {
		generation := c.deployment(t, "settled", "notes").Generation
		c.issue(t, "settled", "notes")
		time.Sleep(time.Second)
		if now := c.deployment(t, "settled", "notes").Generation; now != generation {
			t.Errorf("the Deployment went from generation %d to %d", generation, now)
		}
	})
}

// testTrafficPolicy: the policy follows the spec, is put back, and goes with the types that have
// one.
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
		{"a load balancer", &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer}, "Local"},
		{"a load balancer on every node", &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: "Cluster"}, "Cluster"},
		{"a port of the nodes", &v1alpha1.Service{Type: corev1.ServiceTypeNodePort}, "Local"},
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

// testConditions: each trouble names the thing and heals by itself.
func testConditions(t *testing.T, c *cluster) {
	c.namespace(t, "trouble")
	t.Run("missing issuer", func(t *testing.T) {
		sn := postgresNotes("trouble", "issuer")
		sn.Spec.TLS.CertManager.IssuerRef = v1alpha1.IssuerReference{Name: "nobody", Kind: "ClusterIssuer"}
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, "trouble", "issuer", v1alpha1.ConditionCertificateReady, metav1.ConditionFalse, v1alpha1.ReasonIssuerNotFound)
		if !strings.Contains(message, "ClusterIssuer nobody does not exist: create it, or change spec.tls.certManager.issuerRef") {
			t.Error(message)
		}
	})
	t.Run("unknown Vault connection", func(t *testing.T) {
		sn := postgresNotes("trouble", "connection")
		sn.Spec.VaultConnection = "elsewhere"
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, "trouble", "connection", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonUnknownVaultConnection)
		if !strings.Contains(message, `"elsewhere"`) || !strings.Contains(message, "vaultConnections") {
			t.Error(message)
		}
		c.awaitCondition(t, "trouble", "connection", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonUnknownVaultConnection)
	})
	t.Run("unreachable Vault", func(t *testing.T) {
		sn := postgresNotes("trouble", "away")
		sn.Spec.VaultConnection = "away"
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, "trouble", "away", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultUnreachable)
		if !strings.Contains(message, "https://127.0.0.1:1") {
			t.Error(message)
		}
	})
	t.Run("name conflict", func(t *testing.T) {
		foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "trouble", Name: "conflict-config"}, Data: map[string]string{"a": "b"}}
		if err := c.Create(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), postgresNotes("trouble", "conflict")); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, "trouble", "conflict", v1alpha1.ConditionWorkloadReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
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
	t.Run("database", func(t *testing.T) { testDatabaseTrouble(t, c) })
	t.Run("pods that the API server refuses", func(t *testing.T) {
		sn := postgresNotes("trouble", "refused")
		sn.Spec.PodTemplate = &v1alpha1.PodTemplate{Labels: map[string]string{"team": "no spaces allowed"}}
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, "trouble", "refused", v1alpha1.ConditionWorkloadReady, metav1.ConditionFalse, v1alpha1.ReasonApplyFailed)
		if !strings.Contains(message, "Deployment") || !strings.Contains(message, "spec.template") {
			t.Error(message)
		}
	})
	t.Run("schedule", func(t *testing.T) {
		sn := postgresNotes("trouble", "schedule")
		sn.Spec.KeyRotation.Schedule = "whenever"
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		message := c.awaitCondition(t, "trouble", "schedule", v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionFalse, v1alpha1.ReasonInvalidSchedule)
		if !strings.Contains(message, "spec.keyRotation.schedule") {
			t.Error(message)
		}
	})
}

func testDatabaseTrouble(t *testing.T, c *cluster) {
	if err := c.Create(t.Context(), postgresNotes("trouble", "database")); err != nil {
		t.Fatal(err)
	}
	c.issue(t, "trouble", "database")
	var deployment *appsv1.Deployment
	await(t, "the Deployment", func() string {
		deployment = &appsv1.Deployment{}
		return text(c.Get(context.Background(), client.ObjectKey{Namespace: "trouble", Name: "database"}, deployment))
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
	message := c.awaitCondition(t, "trouble", "database", v1alpha1.ConditionDatabaseReady, metav1.ConditionFalse, config.ReasonDatabaseUnreachable)
	if !strings.Contains(message, "db.example.com") || !strings.Contains(message, "Secret database, key uri") {
		t.Error(message)
	}
	c.awaitReady(t, "trouble", "database")
}

// testDeletion: Retain keeps the keys, which only adoption gives back; Delete shreds them; a Vault
// that is gone keeps no object for ever.
func testDeletion(t *testing.T, c *cluster) {
	sn := postgresNotes("going", "notes")
	c.ready(t, sn)
	key := config.TransitKeyName(c.id, "going", "notes")
	c.deleted(t, sn)
	if !c.keyExists(t, key) {
		t.Fatal("Retain did not keep the key")
	}
	first := sn.Status.DeploymentID

	again := postgresNotes("going", "notes")
	if err := c.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, "going", "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRetained)
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
	c.awaitCondition(t, "going", "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
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
	t.Run("the next of the name", func(t *testing.T) { testAfterShred(t, c) })

	gone := postgresNotes("going", "abandoned")
	gone.Spec.VaultConnection, gone.Spec.DeletionPolicy = "away", v1alpha1.DeletionPolicyDelete
	if err := c.Create(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	c.awaitCondition(t, "going", "abandoned", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultUnreachable)
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

// testEmbedded: the volume outlives the object with Retain, a new object gets it only by adoption,
// and Delete deletes it.
func testEmbedded(t *testing.T, c *cluster) {
	small := func() *v1alpha1.SecureNotes {
		sn := postgresNotes("small", "notes")
		sn.Spec.Database = nil
		return sn
	}
	sn := small()
	c.ready(t, sn)
	claim := &corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: "small", Name: operand.ClaimName("notes")}
	if err := c.Get(t.Context(), key, claim); err != nil || len(claim.OwnerReferences) != 0 {
		t.Fatalf("%v, owners %v", err, claim.OwnerReferences)
	}
	if d := c.deployment(t, "small", "notes"); *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
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
	// The API server holds a claim until the controller that runs nowhere here lets it go.
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
		return "it is still there"
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

// testSealed: a sealed Vault is a condition, the service is left alone, and it heals. It is one of
// the last parts, because every object is affected.
func testSealed(t *testing.T, c *cluster) {
	sn := postgresNotes("sealed", "notes")
	c.ready(t, sn)
	c.vault.Seal(t)
	before := sn.DeepCopy()
	// A change of the spec has the operator look at Vault now rather than at the next resync.
	sn.Spec.Auth = &v1alpha1.Auth{TokenTTL: "2h"}
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, "sealed", "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultSealed)
	if !strings.Contains(message, "is sealed") {
		t.Error(message)
	}
	await(t, "the configuration to change all the same", func() string {
		cm := &corev1.ConfigMap{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: "sealed", Name: "notes-config"}, cm); err != nil {
			return err.Error()
		}
		if !strings.Contains(cm.Data["api.yaml"], "tokenTTL: 2h") {
			return cm.Data["api.yaml"]
		}
		return ""
	})
	c.vault.Unseal(t)
	c.awaitCondition(t, "sealed", "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}
