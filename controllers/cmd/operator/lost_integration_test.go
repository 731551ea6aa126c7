//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestLostClaim: once a pod was ready, a lost claim of the embedded database is not recreated: not
// while it is being deleted, not when it is missing, and not for an object that adopts the key. A
// restored claim is accepted, and an empty one is created once for each accepted loss.
func TestLostClaim(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	object := func() *v1alpha1.SecureNotes {
		sn := postgresNotes(namespace, "notes")
		sn.Spec.Database = nil
		return sn
	}
	sn := object()
	c.ready(t, sn)
	id := sn.Status.DeploymentID
	c.awaitClaimed(t, sn, true)

	c.asPreviousRelease(t, sn)
	generation := c.deployment(t, namespace, "notes").Generation
	claim := c.claim(t, sn)
	for key, want := range map[string]string{
		"argocd.argoproj.io/sync-options": "Prune=false,Delete=false", "helm.sh/resource-policy": "keep", "kustomize.toolkit.fluxcd.io/prune": "disabled",
	} {
		if got := claim.Annotations[key]; got != want {
			t.Errorf("annotation %s of the claim: %q, want %q", key, got, want)
		}
	}

	if err := c.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	message := c.awaitLost(t, sn, "is being deleted")
	if !strings.Contains(message, "Retain") {
		t.Error(message)
	}
	c.touchSpec(t, sn, "3h") // which would replace the pod that still has the volume
	c.releaseClaim(t, claim)
	c.awaitLost(t, sn, "is missing")
	if now := c.deployment(t, namespace, "notes").Generation; now != generation {
		t.Errorf("the Deployment went from generation %d to %d", generation, now)
	}
	c.mustHaveNoClaim(t, sn)
	// An operator that has the claim in its cache creates none either.
	late := operand.VolumeClaim(sn, id)
	late.UID = claim.UID
	err := apply.New(c, c).Apply(t.Context(), late, &corev1.PersistentVolumeClaim{}, func(client.Object) (bool, string) { return true, "" })
	if !apierrors.IsConflict(err) {
		t.Errorf("a claim that has gone meanwhile: %v", err)
	}
	c.mustHaveNoClaim(t, sn)

	restored := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: claim.Name, Annotations: map[string]string{operand.AnnotationDeploymentID: id}},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: claim.Spec.AccessModes, Resources: claim.Spec.Resources},
	}
	if err := c.Create(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "4h") // a claim without labels is not watched, and is looked at a little later
	c.awaitReady(t, namespace, "notes")

	// The loss is accepted, and then the claim is lost again.
	c.loseClaim(t, sn)
	c.awaitLost(t, sn, v1alpha1.AnnotationAcceptEmptyDatabase+"="+id)
	c.stopPods(t, sn)
	c.accept(t, sn, id)
	await(t, "another claim", func() string {
		return text(c.Get(context.Background(), client.ObjectKeyFromObject(claim), &corev1.PersistentVolumeClaim{}))
	})
	c.awaitReady(t, namespace, "notes")
	c.awaitClaimed(t, sn, true)
	c.loseClaim(t, sn)
	c.awaitLost(t, sn, v1alpha1.AnnotationAcceptEmptyDatabase+"="+id+"/2")
	c.mustHaveNoClaim(t, sn)

	// The namespace was deleted with the volume: only Vault has what was kept.
	c.deleted(t, sn)
	adopting := object()
	adopting.Spec.AdoptRetainedKey = new(true)
	if err := c.Create(t.Context(), adopting); err != nil {
		t.Fatal(err)
	}
	c.awaitLost(t, adopting, "is missing")
	c.mustHaveNoClaim(t, adopting)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(adopting), adopting); err != nil || adopting.Status.DeploymentID != id {
		t.Errorf("%v, deployment %s, want %s", err, adopting.Status.DeploymentID, id)
	}
}

// TestLostDatabase: a pod that reports a lost database stalls the object until the loss is accepted
// once, also if Vault was restored to an earlier state.
func TestLostDatabase(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{ownVault: true})
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	c.awaitClaimed(t, sn, true)
	generation := c.deployment(t, namespace, "notes").Generation
	c.loseDatabase(t, sn)
	older := c.vault.Snapshot(t)
	message := c.awaitLost(t, sn, v1alpha1.AnnotationAcceptEmptyDatabase+"="+sn.Status.DeploymentID)
	if !strings.Contains(message, "restore the database from a backup") || !strings.Contains(message, "Secret database") {
		t.Error(message)
	}
	c.accept(t, sn, sn.Status.DeploymentID)
	c.awaitClaimed(t, sn, false)
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionDatabaseReady, metav1.ConditionUnknown, v1alpha1.ReasonProgressing)
	c.awaitReady(t, namespace, "notes")
	c.awaitClaimed(t, sn, true)
	if now := c.deployment(t, namespace, "notes").Generation; now != generation {
		t.Errorf("pods were restarted because of what is recorded: generation %d, then %d", generation, now)
	}

	// The annotation still exists, and Vault no longer records that it was used.
	c.vault.Restore(t, older)
	c.touchSpec(t, sn, "2h")
	await(t, "the restored marker to be corrected", func() string {
		marker := c.entry(t, "secret/data/"+config.KVPath(c.id, sn.Namespace, sn.Name)+"/"+config.MarkerLeaf)
		if fmt.Sprint(marker["emptyDatabases"]) != "1" || marker["claimed"] != true {
			return fmt.Sprint(marker)
		}
		return ""
	})
	c.awaitReady(t, sn.Namespace, sn.Name) // touchSpec has changed the configuration
	c.loseDatabase(t, sn)
	c.awaitLost(t, sn, v1alpha1.AnnotationAcceptEmptyDatabase+"="+sn.Status.DeploymentID+"/2")
	c.awaitClaimed(t, sn, true)
}

// loseDatabase plays a pod that finds its database lost.
func (c *cluster) loseDatabase(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	deployment := c.deployment(t, sn.Namespace, sn.Name)
	pod := c.pod(t, deployment, 0)
	pod.Status.Conditions = nil
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name:  operand.MigrateContainer,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 1, Message: `{"reason":"DatabaseLost","message":"the database is lost"}`,
		}},
	}}
	if err := c.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	before := deployment.DeepCopy()
	deployment.Status.ReadyReplicas--
	deployment.Status.AvailableReplicas--
	deployment.Status.UnavailableReplicas = 1
	if err := c.Status().Patch(t.Context(), deployment, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// TestLostKeys: the pepper of a database in use is not recreated, also if the status of the object
// was lost. The audit key is, and an event says so.
func TestLostKeys(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	c.awaitClaimed(t, sn, true)
	id := sn.Status.DeploymentID
	kv := c.vault.Client(t).KVv2("secret")
	path := config.KVPath(c.id, sn.Namespace, sn.Name) + "/" + config.PepperLeaf
	pepper, err := kv.Get(t.Context(), path)
	if err == nil {
		err = kv.DeleteMetadata(t.Context(), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := sn.DeepCopy()
	sn.Status = v1alpha1.SecureNotesStatus{}
	if err := c.Status().Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "2h")
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRetained)
	if !strings.Contains(message, "restore its status, or set spec.adoptRetainedKey to true") {
		t.Error(message)
	}
	c.change(t, sn, func() { sn.Spec.AdoptRetainedKey = new(true) })
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyMissing)
	if made, err := kv.Get(t.Context(), path); err == nil {
		t.Fatalf("a pepper was created in place of the lost one: version %d", made.VersionMetadata.Version)
	}
	auditKey := "transit/keys/" + config.AuditKeyName(c.id, sn.Namespace, sn.Name)
	root := c.vault.Client(t).Logical()
	if _, err := root.Write(auditKey+"/config", map[string]any{"deletion_allowed": true}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Delete(auditKey); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), path, pepper.Data); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "3h")
	c.awaitReady(t, namespace, "notes")
	await(t, "the event of the audit key", func() string {
		list := &eventsv1.EventList{}
		if err := c.List(context.Background(), list, client.InNamespace(namespace)); err != nil {
			return err.Error()
		}
		for _, event := range list.Items {
			if event.Reason == "AuditKeyReplaced" {
				return ""
			}
		}
		return fmt.Sprintf("%d events, and none of it", len(list.Items))
	})
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil || sn.Status.DeploymentID != id {
		t.Errorf("%v, deployment %s, want %s", err, sn.Status.DeploymentID, id)
	}
}

// asPreviousRelease restores the state of a release that did not record lost databases, and waits
// until the operator has updated it.
func (c *cluster) asPreviousRelease(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	claim := operand.VolumeClaim(sn, sn.Status.DeploymentID)
	claim.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
	claim.Labels = operand.Labels(sn, operand.ComponentAPI)
	claim.Annotations = map[string]string{operand.AnnotationDeploymentID: sn.Status.DeploymentID}
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(claim)
	if err != nil {
		t.Fatal(err)
	}
	delete(raw, "status")
	before := &unstructured.Unstructured{Object: raw}
	if err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(before), client.FieldOwner(apply.FieldManager), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
	c.writeMarker(t, sn, config.Marker{UID: string(sn.UID), DeploymentID: sn.Status.DeploymentID})
	c.touchSpec(t, sn, "2h")
	await(t, "the claim to lose the label", func() string {
		claim := &corev1.PersistentVolumeClaim{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: sn.Namespace, Name: operand.ClaimName(sn.Name)}, claim); err != nil {
			return err.Error()
		}
		if _, labelled := claim.Labels[operand.LabelInstance]; labelled || claim.Labels[operand.LabelOwner] != sn.Name {
			return fmt.Sprint(claim.Labels)
		}
		return ""
	})
	c.awaitReady(t, sn.Namespace, sn.Name) // touchSpec has changed the configuration
	c.awaitClaimed(t, sn, true)
}

func (c *cluster) writeMarker(t *testing.T, sn *v1alpha1.SecureNotes, marker config.Marker) {
	t.Helper()
	raw, err := json.Marshal(marker)
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]any{}
	if err := json.Unmarshal(raw, &data); err != nil {
		t.Fatal(err)
	}
	path := config.KVPath(c.id, sn.Namespace, sn.Name) + "/" + config.MarkerLeaf
	if _, err := c.vault.Client(t).KVv2("secret").Put(t.Context(), path, data); err != nil {
		t.Fatal(err)
	}
}

// awaitClaimed waits until the marker and the configuration of the pods record whether the database
// is in use.
func (c *cluster) awaitClaimed(t *testing.T, sn *v1alpha1.SecureNotes, want bool) {
	t.Helper()
	path := config.KVPath(c.id, sn.Namespace, sn.Name) + "/" + config.MarkerLeaf
	await(t, fmt.Sprintf("a database in use: %t", want), func() string {
		secret, err := c.vault.Client(t).KVv2("secret").Get(context.Background(), path)
		if err != nil {
			return err.Error()
		}
		if claimed := secret.Data["claimed"] == true; claimed != want {
			return fmt.Sprintf("the marker: %v", secret.Data)
		}
		cm := &corev1.ConfigMap{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: sn.Namespace, Name: operand.ConfigMapName(sn.Name)}, cm); err != nil {
			return err.Error()
		}
		if operand.DatabaseClaimed(cm) != want {
			return "the ConfigMap says otherwise"
		}
		return ""
	})
}

// awaitLost waits until the object is stalled because of its database, with a message that contains
// these words.
func (c *cluster) awaitLost(t *testing.T, sn *v1alpha1.SecureNotes, says string) string {
	t.Helper()
	message := ""
	await(t, "DatabaseLost: "+says, func() string {
		message = c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionDatabaseReady, metav1.ConditionFalse, v1alpha1.ReasonDatabaseLost)
		if !strings.Contains(message, says) {
			return message
		}
		return ""
	})
	if sn.Spec.AdoptRetainedKey == nil { // its certificate is issued, and nothing else is in the way
		c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonDatabaseLost)
	}
	return message
}

func (c *cluster) claim(t *testing.T, sn *v1alpha1.SecureNotes) *corev1.PersistentVolumeClaim {
	t.Helper()
	claim := &corev1.PersistentVolumeClaim{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: sn.Namespace, Name: operand.ClaimName(sn.Name)}, claim); err != nil {
		t.Fatal(err)
	}
	return claim
}

// releaseClaim plays the controller that keeps a claim while a pod uses it.
func (c *cluster) releaseClaim(t *testing.T, claim *corev1.PersistentVolumeClaim) {
	t.Helper()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
		t.Fatal(err)
	}
	before := claim.DeepCopy()
	claim.Finalizers = nil
	if err := c.Patch(t.Context(), claim, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) loseClaim(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	claim := c.claim(t, sn)
	if err := c.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	c.releaseClaim(t, claim)
	c.awaitGone(t, claim)
}

func (c *cluster) mustHaveNoClaim(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	err := c.Get(t.Context(), client.ObjectKey{Namespace: sn.Namespace, Name: operand.ClaimName(sn.Name)}, &corev1.PersistentVolumeClaim{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("a claim was created in place of the lost one: %v", err)
	}
}

func (c *cluster) stopPods(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	if err := c.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(sn.Namespace), client.MatchingLabels(operand.Selector(sn)), client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
}

// accept sets the annotation that accepts an empty database.
func (c *cluster) accept(t *testing.T, sn *v1alpha1.SecureNotes, value string) {
	t.Helper()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	before := sn.DeepCopy()
	sn.Annotations = map[string]string{v1alpha1.AnnotationAcceptEmptyDatabase: value}
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}
