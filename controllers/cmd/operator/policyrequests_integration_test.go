//go:build integration

package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	klabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// testRequests: in objects of users, the operator may change only its own metadata, and nothing
// that would request more or cause a deletion.
func (p *policed) testRequests(t *testing.T, sn *v1alpha1.SecureNotes) {
	const foreignFinalizer = "example.com/keep"
	asked := postgresNotes(sn.Namespace, "asked")
	asked.Spec.Suspend = new(true)
	asked.Labels, asked.Annotations = map[string]string{"team": "notes"}, map[string]string{"a": "b"}
	asked.Finalizers = []string{v1alpha1.Finalizer, foreignFinalizer}
	asked.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "o", UID: "00000000-0000-0000-0000-000000000003"}}
	deleted := asked.DeepCopy()
	deleted.Name = "deleted"
	// Their SecureNotes does not exist, so the operator that runs here does not change them.
	manual, scheduled := rotationOf(sn, "manual"), rotationOf(sn, "nowhere-29000000")
	for _, kr := range []*v1alpha1.KeyRotation{manual, scheduled} {
		kr.Spec.SecureNotesRef.Name = "nowhere"
	}
	labelled := rotationOf(sn, "nowhere-29000001")
	labelled.Spec.SecureNotesRef.Name = "nowhere"
	labelled.Labels = map[string]string{v1alpha1.LabelScheduled: "true"}
	byHand := backupOf(sn, "manual")
	byHand.Spec.SecureNotesRef, byHand.Annotations = manual.Spec.SecureNotesRef, map[string]string{"a": "b"}
	afterRotation := byHand.DeepCopy()
	afterRotation.Name = "nowhere-after-v2"
	adopted, threeHeld := manual.DeepCopy(), manual.DeepCopy()
	adopted.Name, threeHeld.Name = "adopted", "held"
	adopted.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "SecureNotes", Name: "nowhere", UID: "00000000-0000-0000-0000-000000000002"}}
	threeHeld.Finalizers = []string{"example.com/first", v1alpha1.Finalizer, foreignFinalizer}
	largeDeleted, largeRotation := deleted.DeepCopy(), manual.DeepCopy()
	largeDeleted.Name, largeRotation.Name = "large", "large"
	for _, object := range []client.Object{asked, deleted, manual, scheduled, labelled, byHand, afterRotation, adopted, threeHeld, largeRotation, largeDeleted} {
		if err := p.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	var many []metav1.OwnerReference
	for i := range 4000 {
		many = append(many, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "o", UID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", i))})
	}
	for _, object := range []client.Object{largeRotation, largeDeleted} {
		p.enlarge(t, object, func() {
			object.SetAnnotations(veryManyAnnotations())
			object.SetOwnerReferences(many)
		})
	}
	t.Cleanup(func() {
		_ = p.Patch(context.Background(), largeDeleted, mergePatch(t, `{metadata: {finalizers: null}}`))
		_ = p.Delete(context.Background(), largeRotation)
	})
	unmarked := scheduled.DeepCopy()
	scheduled.Status.CreatedBy = v1alpha1.CreatedBySchedule
	if err := p.Status().Patch(t.Context(), scheduled, client.MergeFrom(unmarked)); err != nil {
		t.Fatal(err)
	}
	uncounted := afterRotation.DeepCopy()
	afterRotation.Status.CreatedBy = v1alpha1.BackupByRotation
	if err := p.Status().Patch(t.Context(), afterRotation, client.MergeFrom(uncounted)); err != nil {
		t.Fatal(err)
	}
	for _, object := range []client.Object{deleted, largeDeleted} {
		if err := p.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		if err := p.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatal(err)
		}
	}
	owner := func(kind, name string) []metav1.OwnerReference {
		o := sn.DeepCopy()
		o.Name, o.UID = name, "00000000-0000-0000-0000-000000000001"
		return []metav1.OwnerReference{*metav1.NewControllerRef(o, v1alpha1.GroupVersion.WithKind(kind))}
	}
	annotated := func(key string) func(client.Object) {
		return func(o client.Object) {
			o.SetAnnotations(map[string]string{"a": "b", key: "manual"})
		}
	}
	owned := func(owners []metav1.OwnerReference) func(client.Object) {
		return func(o client.Object) { o.SetOwnerReferences(owners) }
	}
	held := func(finalizers ...string) func(client.Object) {
		return func(o client.Object) { o.SetFinalizers(finalizers) }
	}
	const labels, annotations, owners, finalizers = "may not change metadata.labels", "may not change metadata.annotations", "may not change metadata.ownerReferences", "may not change metadata.finalizers"
	for name, tc := range map[string]struct {
		object client.Object
		change func(client.Object)
		// want is empty if the operator may make the request.
		want string
	}{
		"a finalizer of its own":           {sn, held(v1alpha1.Finalizer), ""},
		"none, when it is deleted":         {deleted, held(foreignFinalizer), ""},
		"none, although nobody deleted it": {asked, held(foreignFinalizer), finalizers},
		"no finalizer of others":           {asked, held(v1alpha1.Finalizer), finalizers},
		"a finalizer of others":            {asked, held(v1alpha1.Finalizer, foreignFinalizer, "example.com/more"), finalizers},
		"an owner that is not there":       {asked, owned(owner("SecureNotes", "gone")), owners},
		"a label":                          {asked, func(o client.Object) { o.SetLabels(map[string]string{"team": "x"}) }, labels},
		"no label":                         {asked, func(o client.Object) { o.SetLabels(nil) }, labels},
		"a request to rotate":              {asked, annotated(v1alpha1.AnnotationRotateRequestedAt), annotations},
		"the loss of its keys":             {asked, annotated(v1alpha1.AnnotationAbandonVault), annotations},
		"an empty database":                {asked, annotated(v1alpha1.AnnotationAcceptEmptyDatabase), annotations},
		"an annotation of KeyRotations":    {asked, annotated(v1alpha1.AnnotationEnded), annotations},
		"no annotation":                    {asked, func(o client.Object) { o.SetAnnotations(nil) }, annotations},
		"another annotation":               {asked, func(o client.Object) { o.SetAnnotations(map[string]string{"a": "c"}) }, annotations},
		"a rotation is adopted":            {manual, owned(owner("SecureNotes", "nowhere")), ""},
		"a rotation of another":            {manual, owned(owner("SecureNotes", "gone")), owners},
		"a rotation of another kind":       {manual, owned(owner("KeyRotation", "nowhere")), owners},
		"a rotation is guarded":            {manual, held(v1alpha1.Finalizer), ""},
		"a rotation is held by others":     {manual, held("example.com/more"), finalizers},
		// These have 4,000 owners and 256 KiB of annotations, the most that the API server stores.
		// One check of each annotation takes longer than the whole request of an administrator.
		"none of a large one, when deleted": {largeDeleted, held(foreignFinalizer), ""},
		"an owner less":                     {asked, owned(nil), owners},
		"a request by a large one":          {largeDeleted, annotated(v1alpha1.AnnotationRotateRequestedAt), annotations},
		"a large rotation is adopted and guarded": {largeRotation, func(o client.Object) {
			o.SetOwnerReferences(append(o.GetOwnerReferences(), owner("SecureNotes", "nowhere")...))
			held(v1alpha1.Finalizer)(o)
		}, ""},
		"an owner of its name is replaced":    {adopted, owned(owner("SecureNotes", "nowhere")), ""},
		"a finalizer from the midst of three": {threeHeld, held("example.com/first", foreignFinalizer), ""},
		"a rotation has ended":                {manual, func(o client.Object) { o.SetAnnotations(map[string]string{v1alpha1.AnnotationEnded: "manual"}) }, ""},
		"a rotation is retried":               {manual, annotated(v1alpha1.AnnotationRetryRequestedAt), annotations},
		"a request to back up":                {asked, annotated(v1alpha1.AnnotationBackupRequestedAt), annotations},
		"a backup has ended":                  {byHand, annotated(v1alpha1.AnnotationEnded), ""},
		"a backup has started":                {byHand, annotated(v1alpha1.AnnotationStarted), annotations},
		"a backup is annotated":               {byHand, annotated("example.com/a"), annotations},
		"a backup is of the schedule":         {byHand, func(o client.Object) { o.SetLabels(map[string]string{v1alpha1.LabelScheduled: "true"}) }, labels},
		"a backup is adopted":                 {byHand, owned(owner("SecureNotes", "nowhere")), owners},
		"a backup is guarded":                 {byHand, held(v1alpha1.Finalizer), finalizers},
		"a rotation is of the schedule":       {manual, func(o client.Object) { o.SetLabels(map[string]string{v1alpha1.LabelScheduled: "true"}) }, labels},
	} {
		t.Run(name, func(t *testing.T) {
			changed := tc.object.DeepCopyObject().(client.Object)
			tc.change(changed)
			p.verdict(t, p.operator.Patch(t.Context(), changed, client.MergeFrom(tc.object), client.DryRunAll), tc.want)
		})
	}
	t.Run("backups", func(t *testing.T) { p.testBackupRequests(t, sn) })
	t.Run("scaled", func(t *testing.T) {
		numbered := postgresNotes(sn.Namespace, "numbered")
		numbered.Spec.Suspend, numbered.Spec.Replicas = new(true), new(int32(2))
		if err := p.Create(t.Context(), numbered); err != nil {
			t.Fatal(err)
		}
		for object, want := range map[*v1alpha1.SecureNotes]string{asked: "", numbered: "only while it is unset"} {
			scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: object.Name, Namespace: object.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 3}}
			p.verdict(t, p.operator.SubResource("scale").Update(t.Context(), object.DeepCopy(), client.WithSubResourceBody(scale), client.DryRunAll), want)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		p.verdict(t, p.operator.Delete(t.Context(), scheduled, client.DryRunAll), "")
		p.verdict(t, p.operator.Delete(t.Context(), afterRotation, client.DryRunAll), "")
		for _, object := range []client.Object{manual, labelled, byHand} {
			p.verdict(t, p.operator.Delete(t.Context(), object, client.DryRunAll), "only KeyRotations and NotesBackups that it created")
		}
	})
}

// testBackupRequests: the operator may create only the NotesBackups that are due.
func (p *policed) testBackupRequests(t *testing.T, sn *v1alpha1.SecureNotes) {
	const created = "may create only NotesBackups"
	for name, tc := range map[string]struct {
		suffix string
		change func(*v1alpha1.NotesBackup)
		// want is empty if the operator may make the request.
		want string
	}{
		"of the schedule":          {suffix: "-29000000"},
		"requested":                {suffix: "-req-0123456789"},
		"after a rotation":         {suffix: "-after-v12"},
		"after another's rotation": {suffix: "-after-v12-0123456789"},
		"of another name":          {suffix: "-manual", want: created},
		"of no version":            {suffix: "-after-v", want: created},
		"of another SecureNotes":   {suffix: "-29000000", change: func(nb *v1alpha1.NotesBackup) { nb.Spec.SecureNotesRef.Name = "other" }, want: created},
		"without the label":        {suffix: "-29000000", change: func(nb *v1alpha1.NotesBackup) { nb.Labels = nil }, want: created},
		"with an annotation":       {suffix: "-29000000", change: func(nb *v1alpha1.NotesBackup) { nb.Annotations = map[string]string{v1alpha1.AnnotationEnded: "x"} }, want: created},
		"with an owner":            {suffix: "-29000000", change: func(nb *v1alpha1.NotesBackup) { nb.OwnerReferences = p.rotation(sn, "x").OwnerReferences }, want: created},
		"with the finalizer":       {suffix: "-29000000", change: func(nb *v1alpha1.NotesBackup) { nb.Finalizers = []string{v1alpha1.Finalizer} }, want: created},
	} {
		t.Run(name, func(t *testing.T) {
			nb := backupOf(sn, sn.Name+tc.suffix)
			nb.Labels = operand.Labels(sn, operand.ComponentBackup)
			if tc.change != nil {
				tc.change(nb)
			}
			p.verdict(t, p.try(t.Context(), nb), tc.want)
		})
	}
}

// veryManyAnnotations returns as many annotations as fit into the 256 KiB that the API server
// stores.
func veryManyAnnotations() map[string]string {
	all := map[string]string{}
	for i := range 50_000 {
		all[fmt.Sprintf("a%x", i)] = ""
	}
	return all
}

// enlarge changes an object and removes its managedFields. For so many fields, tracking them takes
// the API server far longer than the admission that is tested.
func (p *policed) enlarge(t *testing.T, object client.Object, change func()) {
	t.Helper()
	before := object.DeepCopyObject().(client.Object)
	change()
	object.SetManagedFields([]metav1.ManagedFieldsEntry{{}})
	if err := p.Patch(t.Context(), object, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// verdict fails if a request was not denied for the wanted reason, or was denied if none is wanted.
func (p *policed) verdict(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%v; want it denied with %q", err, want)
	}
}

// certified returns a change to the Certificate that the operator creates, in a Secret.
func (p *policed) certified(sn *v1alpha1.SecureNotes, secret string) func(client.Object) {
	return func(o client.Object) {
		o.(*certmanagerv1.Certificate).Spec = operand.Certificate(sn, operand.Environment{CertificateSecret: secret}).Spec
	}
}

// testChanges: the operator may not change its own objects into what it may not create.
func (p *policed) testChanges(t *testing.T, sn *v1alpha1.SecureNotes) {
	planted := operand.ServiceAccounts(sn)[0]
	planted.OwnerReferences, planted.Annotations = nil, map[string]string{"eks.amazonaws.com/role-arn": "x"}
	planted.Secrets = []corev1.ObjectReference{{Name: "a"}}
	planted.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "a"}, {Name: "b"}}
	claim := operand.VolumeClaim(embeddedNotes(sn), "id")
	former := operand.Certificate(sn, operand.Environment{CertificateSecret: operand.FormerCertificateSecretName("changed")})
	former.Name, former.Labels[operand.LabelInstance] = operand.CertificateName("changed"), "changed"
	former.Spec.IsCA = true
	large, largeWorkload := operand.ServiceAccounts(sn)[1], p.deployment(sn)
	large.OwnerReferences = nil
	for _, object := range []client.Object{planted, claim, former, large, largeWorkload} {
		if err := p.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	p.enlarge(t, large, func() { large.Annotations = veryManyAnnotations() })
	p.enlarge(t, largeWorkload, func() { maps.Copy(largeWorkload.Spec.Template.Annotations, veryManyAnnotations()) })
	t.Cleanup(func() {
		for _, object := range []client.Object{large, largeWorkload} {
			_ = p.Delete(context.Background(), object)
		}
	})
	labelled := func(o client.Object) { o.SetLabels(klabels.Merge(o.GetLabels(), klabels.Set{"team": "notes"})) }
	for name, tc := range map[string]struct {
		object client.Object
		change func(client.Object)
		want   string
	}{
		"a service account with another Secret for images": {planted, func(o client.Object) {
			account := o.(*corev1.ServiceAccount)
			account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: "c"})
		}, "may not add any to a ServiceAccount"},
		"a service account with another Secret": {planted, func(o client.Object) {
			o.(*corev1.ServiceAccount).Secrets = []corev1.ObjectReference{{Name: "b"}}
		}, "may not add any to a ServiceAccount"},
		"a service account of another role": {planted, func(o client.Object) {
			o.SetAnnotations(map[string]string{"eks.amazonaws.com/role-arn": "y"})
		}, "may not add any to a ServiceAccount"},
		"a service account without what was planted": {planted, func(o client.Object) {
			account := o.(*corev1.ServiceAccount)
			account.Annotations, account.Secrets, account.ImagePullSecrets = nil, nil, nil
		}, ""},
		"a service account of very many annotations": {large, labelled, ""},
		"pods of very many annotations": {largeWorkload, func(o client.Object) {
			o.(*appsv1.Deployment).Spec.Template.Annotations["securenotes.dev/session-keys"] = "session-keys-3"
		}, ""},
		"a claim of a volume of others":       {claim, func(o client.Object) { o.(*corev1.PersistentVolumeClaim).Spec.VolumeName = "pv-of-others" }, "must be for new volumes"},
		"a Certificate of an earlier release": {former, p.certified(sn, operand.FormerCertificateSecretName("changed")), ""},
		"a Certificate of this release":       {former, p.certified(sn, operand.CertificateSecretName("changed")), ""},
		"a Certificate over another Secret":   {former, p.certified(sn, "payments-tls"), "must use the Secret NAME-securenotes-certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := tc.object.DeepCopyObject().(client.Object)
			tc.change(changed)
			p.verdict(t, p.operator.Patch(t.Context(), changed, client.MergeFrom(tc.object), client.DryRunAll), tc.want)
		})
	}
}
