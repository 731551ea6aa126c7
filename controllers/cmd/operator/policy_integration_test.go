//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// testPolicy: the admission policies of the chart let the operator make what its builders return,
// and nothing else that its RBAC allows. All other parts run under them, too.
func testPolicy(t *testing.T, c *cluster) {
	const namespace = "policy"
	c.namespace(t, namespace)
	c.namespace(t, "of-others")
	p := &policed{cluster: c, operator: c.asOperator(t), env: operand.Environment{
		Image: c.config.OperandImage, ClusterID: c.id, DeploymentID: "id", Connection: vaultadmin.Connection{
			Address: "https://vault.example.com", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", DatabaseMount: "database", Audience: "vault"},
	}}
	variants := map[string]*v1alpha1.SecureNotes{}
	for name, change := range map[string]func(*v1alpha1.SecureNotesSpec){
		"postgres": func(*v1alpha1.SecureNotesSpec) {},
		"embedded": func(s *v1alpha1.SecureNotesSpec) { s.Database = nil },
		"secrets": func(s *v1alpha1.SecureNotesSpec) {
			s.TLS = v1alpha1.TLS{SecretRef: &v1alpha1.LocalObjectReference{Name: "own-tls"}}
			s.Database.Postgres.CASecretRef = &v1alpha1.SecretKeyReference{Name: "database-ca", Key: "ca.crt"}
			s.Database.Postgres.VaultCredentials = &v1alpha1.VaultCredentials{}
			s.RateLimits = &v1alpha1.RateLimits{Redis: &v1alpha1.RedisStore{
				URISecretRef: v1alpha1.SecretKeyReference{Name: "redis", Key: "uri"}, CASecretRef: &v1alpha1.SecretKeyReference{Name: "redis-ca", Key: "ca.crt"},
			}}
			s.Service = &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer, Annotations: map[string]string{"a": "b"}}
			s.PodTemplate = &v1alpha1.PodTemplate{
				Labels: map[string]string{"team": "notes"}, ImagePullSecrets: []v1alpha1.LocalObjectReference{{Name: "pull"}},
			}
		},
	} {
		sn := postgresNotes(namespace, name)
		sn.Spec.Suspend = new(true) // the operator that runs here has no part in it
		change(&sn.Spec)
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		// A RoleBinding needs its Role to be there.
		if err := c.Create(t.Context(), operand.RotationRole(sn)); err != nil {
			t.Fatal(err)
		}
		variants[name] = sn
	}
	p.awaitPolicies(t, variants["postgres"])
	for name, sn := range variants {
		t.Run(name, func(t *testing.T) {
			for _, object := range p.made(t, sn) {
				if err := p.try(t.Context(), object); err != nil {
					t.Errorf("%T %s: %v", object, object.GetName(), err)
				}
			}
		})
	}
	t.Run("escapes", func(t *testing.T) { p.testEscapes(t, variants["postgres"]) })
	t.Run("others are free", func(t *testing.T) { p.testOthers(t, variants["postgres"]) })
	t.Run("what is not the operator's", func(t *testing.T) { p.testForeign(t, variants["postgres"]) })
}

// policed tries requests with the operator's rights. No try is stored.
type policed struct {
	*cluster
	operator client.Client
	env      operand.Environment
}

func (p *policed) try(ctx context.Context, object client.Object) error {
	// Admission comes before the look whether there is one already.
	return client.IgnoreAlreadyExists(p.operator.Create(ctx, object.DeepCopyObject().(client.Object), client.DryRunAll))
}

// made returns every object of a SecureNotes.
func (p *policed) made(t *testing.T, sn *v1alpha1.SecureNotes) []client.Object {
	t.Helper()
	env := p.env
	env.CertificateSecret = operand.CertificateSecretName(sn.Name)
	cm, err := operand.ConfigMap(sn, env)
	if err != nil {
		t.Fatal(err)
	}
	objects := []client.Object{cm, operand.ProgressConfigMap(sn), operand.Service(sn), operand.RotationRole(sn), operand.RotationRoleBinding(sn), p.deployment(sn)}
	for _, account := range operand.ServiceAccounts(sn) {
		objects = append(objects, account)
	}
	if certificate := operand.Certificate(sn, env); certificate != nil {
		objects = append(objects, certificate)
	}
	if claim := operand.VolumeClaim(sn, "id"); claim != nil {
		objects = append(objects, claim)
	}
	if budget := operand.DisruptionBudget(sn); budget != nil {
		objects = append(objects, budget)
	}
	for _, name := range []func(string, int64, int32) string{operand.RetireJobName, operand.TrimJobName} {
		objects = append(objects, operand.VerifyJob(sn, env, work(sn, "SecureNotes", name(sn.Name, 2, 1))))
	}
	return append(objects, p.job(sn), operand.VerifyJob(sn, env, work(sn, "KeyRotation", operand.VerifyJobName(sn.Name, 2, 1))))
}

func work(sn *v1alpha1.SecureNotes, owner, name string) operand.Work {
	return operand.Work{
		Owner: metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind(owner)), Name: name,
		ToVersion: 2, Strategy: v1alpha1.StrategyReencrypt, Shards: 3, EndSessions: new(metav1.Now()),
	}
}

func (p *policed) deployment(sn *v1alpha1.SecureNotes) *appsv1.Deployment {
	env := p.env
	env.CertificateSecret, env.SessionKeys = operand.CertificateSecretName(sn.Name), "session-keys-2"
	return operand.Deployment(sn, env, "hash")
}

func (p *policed) job(sn *v1alpha1.SecureNotes) *batchv1.Job {
	return operand.ReencryptJob(sn, p.env, work(sn, "KeyRotation", operand.ReencryptJobName(sn.Name, 2, 1)))
}

// awaitPolicies waits until the API server goes by the policies.
func (p *policed) awaitPolicies(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	job := p.job(sn)
	job.Spec.Template.Spec.Containers[0].Image = "docker.io/busybox"
	elsewhere := operand.Service(sn)
	elsewhere.Namespace = metav1.NamespaceSystem
	for _, denied := range []client.Object{job, elsewhere} {
		await(t, fmt.Sprintf("the policy for %T", denied), func() string {
			if err := p.try(context.Background(), denied); err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
				return fmt.Sprint("not denied: ", err)
			}
			return ""
		})
	}
}

// testEscapes tries what whoever takes the operator over would.
func (p *policed) testEscapes(t *testing.T, sn *v1alpha1.SecureNotes) {
	deployment := func(change func(*appsv1.Deployment)) client.Object {
		d := p.deployment(sn)
		change(d)
		return d
	}
	pod := func(change func(*corev1.PodSpec)) client.Object {
		return deployment(func(d *appsv1.Deployment) { change(&d.Spec.Template.Spec) })
	}
	container := func(change func(*corev1.Container)) client.Object {
		return pod(func(s *corev1.PodSpec) { change(&s.Containers[0]) })
	}
	volume := func(source corev1.VolumeSource) client.Object {
		return pod(func(s *corev1.PodSpec) { s.Volumes = append(s.Volumes, corev1.Volume{Name: "x", VolumeSource: source}) })
	}
	changed := func(object client.Object, change func(client.Object)) client.Object {
		change(object)
		return object
	}
	in := func(namespace string, object client.Object) client.Object {
		return changed(object, func(o client.Object) { o.SetNamespace(namespace) })
	}
	token := func(audience string) corev1.VolumeSource {
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience, Path: "token"},
		}}}}
	}
	job := func(change func(*batchv1.Job)) client.Object {
		j := p.job(sn)
		change(j)
		return j
	}
	certificate := func(change func(*certmanagerv1.CertificateSpec)) client.Object {
		c := operand.Certificate(sn, operand.Environment{CertificateSecret: operand.CertificateSecretName(sn.Name)})
		change(&c.Spec)
		return c
	}
	service := func(change func(*corev1.ServiceSpec)) client.Object {
		s := operand.Service(sn)
		change(&s.Spec)
		return s
	}
	account := operand.ServiceAccounts(sn)[0]
	const namespaces, names, owners, image, accounts, node, restricted, volumes = "in the namespaces of Kubernetes", "of the names", "have its label and an owner",
		"run no image", "service accounts of the SecureNotes", "share what is the node's", "restricted Pod Security Standard", "mount nothing but"
	for name, tc := range map[string]struct {
		object client.Object
		want   string
	}{
		"a Service in kube-system":                 {in("kube-system", operand.Service(sn)), namespaces},
		"a Job in kube-system":                     {in("kube-system", p.job(sn)), namespaces},
		"a Service in the operator's namespace":    {in(operatorNamespace, operand.Service(sn)), namespaces},
		"a ConfigMap in kube-public":               {in("kube-public", operand.ProgressConfigMap(sn)), namespaces},
		"a Deployment in the operator's namespace": {in(operatorNamespace, p.deployment(sn)), "denied"},
		"a Deployment of another name":             {deployment(func(d *appsv1.Deployment) { d.Name = "coredns" }), names},
		"a ConfigMap of another name":              {changed(operand.ProgressConfigMap(sn), func(o client.Object) { o.SetName("kube-root-ca.crt") }), names},
		"a Job of another name":                    {job(func(j *batchv1.Job) { j.Name = "backup" }), names},
		"a service account of another name":        {changed(account.DeepCopy(), func(o client.Object) { o.SetName("admin") }), names},
		"a claim of another name":                  {changed(operand.VolumeClaim(embeddedNotes(sn), "id"), func(o client.Object) { o.SetName("postgres") }), names},
		"nobody's Deployment":                      {deployment(func(d *appsv1.Deployment) { d.OwnerReferences = nil }), owners},
		"a Deployment without label":               {deployment(func(d *appsv1.Deployment) { delete(d.Labels, operand.LabelManagedBy) }), owners},
		"another image":                            {container(func(c *corev1.Container) { c.Image = "docker.io/busybox" }), image},
		"another image of an init container":       {pod(func(s *corev1.PodSpec) { s.InitContainers[0].Image = "docker.io/busybox" }), image},
		"another image of a Job":                   {job(func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "docker.io/busybox" }), image},
		"a second container": {pod(func(s *corev1.PodSpec) {
			s.Containers = append(s.Containers, corev1.Container{Name: "x", Image: "docker.io/busybox"})
		}), image},
		"another program":         {container(func(c *corev1.Container) { c.Command = []string{"/bin/sh"} }), image},
		"the image's own program": {container(func(c *corev1.Container) { c.Command = nil }), image},
		"an environment":          {container(func(c *corev1.Container) { c.Env = []corev1.EnvVar{{Name: "A", Value: "b"}} }), image},
		"an environment from a Secret": {container(func(c *corev1.Container) {
			c.EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "x"}}}}
		}), image},
		"the default service account":   {pod(func(s *corev1.PodSpec) { s.ServiceAccountName = "default" }), accounts},
		"somebody's service account":    {pod(func(s *corev1.PodSpec) { s.ServiceAccountName = "cluster-admin" }), accounts},
		"a Job under the API's account": {job(func(j *batchv1.Job) { j.Spec.Template.Spec.ServiceAccountName = operand.APIServiceAccount(sn.Name) }), accounts},
		"the node's network":            {pod(func(s *corev1.PodSpec) { s.HostNetwork = true }), node},
		"the node's processes":          {pod(func(s *corev1.PodSpec) { s.HostPID = true }), node},
		"a port of the node":            {container(func(c *corev1.Container) { c.Ports[0].HostPort = 8443 }), node},
		"a probe of another host":       {container(func(c *corev1.Container) { c.LivenessProbe.HTTPGet.Host = "192.0.2.1" }), node},
		"root":                          {pod(func(s *corev1.PodSpec) { s.SecurityContext.RunAsUser = new(int64(0)) }), restricted},
		"perhaps root":                  {pod(func(s *corev1.PodSpec) { s.SecurityContext.RunAsNonRoot = nil }), restricted},
		"no security context":           {pod(func(s *corev1.PodSpec) { s.SecurityContext = nil }), restricted},
		"system calls without a filter": {pod(func(s *corev1.PodSpec) { s.SecurityContext.SeccompProfile.Type = corev1.SeccompProfileTypeUnconfined }), restricted},
		"a privileged container": {container(func(c *corev1.Container) {
			c.SecurityContext.Privileged, c.SecurityContext.AllowPrivilegeEscalation = new(true), new(true)
		}), restricted},
		"more privileges":                   {container(func(c *corev1.Container) { c.SecurityContext.AllowPrivilegeEscalation = nil }), restricted},
		"a capability":                      {container(func(c *corev1.Container) { c.SecurityContext.Capabilities.Add = []corev1.Capability{"SYS_ADMIN"} }), restricted},
		"every capability":                  {container(func(c *corev1.Container) { c.SecurityContext.Capabilities = nil }), restricted},
		"a file system that can be written": {container(func(c *corev1.Container) { c.SecurityContext.ReadOnlyRootFilesystem = nil }), restricted},
		"a directory of the node":           {volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}), volumes},
		"a claim of somebody's":             {volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "postgres"}}), volumes},
		"a ConfigMap of somebody's":         {volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "x"}}}), volumes},
		"a token of the API server":         {volume(token("")), volumes},
		"a token of a cloud":                {volume(token("sts.amazonaws.com")), volumes},
		"a projected Secret":                {volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "x"}}}}}}), volumes},
		"rights of a cloud":                 {changed(account.DeepCopy(), func(o client.Object) { o.SetAnnotations(map[string]string{"eks.amazonaws.com/role-arn": "x"}) }), "annotate service accounts"},
		"a Role with more rights":           {changed(operand.RotationRole(sn), func(o client.Object) { o.(*rbacv1.Role).Rules[0].ResourceNames = nil }), "give no right"},
		"a Role for Jobs": {changed(operand.RotationRole(sn), func(o client.Object) {
			o.(*rbacv1.Role).Rules = []rbacv1.PolicyRule{{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"create"}}}
		}), "give no right"},
		"rights for somebody": {changed(operand.RotationRoleBinding(sn), func(o client.Object) { o.(*rbacv1.RoleBinding).Subjects[0].Name = "somebody" }), "give rights to no service account"},
		"rights for everybody": {changed(operand.RotationRoleBinding(sn), func(o client.Object) {
			o.(*rbacv1.RoleBinding).Subjects = []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:authenticated"}}
		}), "give rights to no service account"},
		"a Service with an address of others": {service(func(s *corev1.ServiceSpec) { s.ExternalIPs = []string{"192.0.2.1"} }), "Services lead to"},
		"a Service by another name": {service(func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName, s.Selector = corev1.ServiceTypeExternalName, "example.com", nil
		}), "Services lead to"},
		"a Service of other pods":       {service(func(s *corev1.ServiceSpec) { s.Selector = map[string]string{"app": "payments"} }), "Services lead to"},
		"a Certificate over a Secret":   {certificate(func(s *certmanagerv1.CertificateSpec) { s.SecretName = "payments" }), "in a Secret of their own"},
		"a Certificate of an authority": {certificate(func(s *certmanagerv1.CertificateSpec) { s.IsCA = true }), "in a Secret of their own"},
		"a Secret that is copied": {certificate(func(s *certmanagerv1.CertificateSpec) {
			s.SecretTemplate = &certmanagerv1.CertificateSecretTemplate{Annotations: map[string]string{"a": "b"}}
		}), "in a Secret of their own"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.try(t.Context(), tc.object); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("not denied with %q: %v", tc.want, err)
			}
		})
	}
}

// testOthers: nobody else is held to anything, in any namespace.
func (p *policed) testOthers(t *testing.T, sn *v1alpha1.SecureNotes) {
	for _, namespace := range []string{metav1.NamespaceSystem, operatorNamespace, sn.Namespace, "of-others"} {
		deployment, job := p.deployment(sn), p.job(sn)
		for _, pod := range []*corev1.PodSpec{&deployment.Spec.Template.Spec, &job.Spec.Template.Spec} {
			pod.Containers[0].Image, pod.HostNetwork, pod.ServiceAccountName = "docker.io/busybox", true, "default"
			pod.Containers[0].Ports = nil
		}
		for _, object := range []client.Object{deployment, job, operand.Service(sn), operand.ProgressConfigMap(sn)} {
			object.SetNamespace(namespace)
			object.SetName("anything")
			object.SetOwnerReferences(nil)
			if err := p.Create(t.Context(), object, client.DryRunAll); err != nil {
				t.Errorf("%T in %s: %v", object, namespace, err)
			}
		}
	}
}

func embeddedNotes(sn *v1alpha1.SecureNotes) *v1alpha1.SecureNotes {
	small := sn.DeepCopy()
	small.Spec.Database = nil
	return small
}

// testForeign: what others have made is neither changed nor deleted, and no SecureNotes asks for
// what its user does not.
func (p *policed) testForeign(t *testing.T, sn *v1alpha1.SecureNotes) {
	foreign := p.deployment(sn)
	foreign.OwnerReferences, foreign.Labels = nil, map[string]string{operand.LabelInstance: sn.Name}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: "builder"}}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: "orders-data"},
		Spec:       operand.VolumeClaim(embeddedNotes(sn), "id").Spec,
	}
	for _, object := range []client.Object{foreign, account, claim} {
		if err := p.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	taken := foreign.DeepCopy()
	taken.Labels, taken.OwnerReferences = p.deployment(sn).Labels, p.deployment(sn).OwnerReferences
	asked := sn.DeepCopy()
	asked.Spec.Database.Postgres.URISecretRef.Name = "payments"
	patch := func(object, before client.Object) error {
		return p.operator.Patch(t.Context(), object, client.MergeFrom(before), client.DryRunAll)
	}
	p.testRestored(t, sn)
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"a Deployment is taken over":      {patch(taken, foreign), "may not change or delete what is not its own"},
		"a service account is deleted":    {p.operator.Delete(t.Context(), account, client.DryRunAll), "of the names"},
		"a claim is deleted":              {p.operator.Delete(t.Context(), claim, client.DryRunAll), "may not change or delete what is not its own"},
		"a SecureNotes is asked for more": {patch(asked, sn), "may not change what a SecureNotes asks for"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: not denied with %q: %v", name, tc.want, tc.err)
		}
	}
}

// testRestored: what a backup restored has the labels and no owner, and perhaps more than the
// operator makes. It is adopted as it is; what changes then must be the operator's.
func (p *policed) testRestored(t *testing.T, sn *v1alpha1.SecureNotes) {
	deployment, service, certificate := p.deployment(sn), operand.Service(sn), operand.Certificate(sn, operand.Environment{CertificateSecret: "payments"})
	deployment.Name, deployment.Labels[operand.LabelInstance] = "restored", "restored"
	stranger := *deployment.Spec.Template.Spec.Containers[0].DeepCopy()
	stranger.Name, stranger.Image = "stranger", "docker.io/busybox"
	deployment.Spec.Template.Spec.Containers = append(deployment.Spec.Template.Spec.Containers, stranger)
	service.Spec.ExternalIPs = []string{"192.0.2.1"}
	role, binding := operand.RotationRole(sn), operand.RotationRoleBinding(sn)
	if err := p.Get(t.Context(), client.ObjectKeyFromObject(role), role); err != nil {
		t.Fatal(err)
	}
	role.Rules[0].ResourceNames, role.OwnerReferences = nil, nil
	if err := p.Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	binding.Subjects = append(binding.Subjects, rbacv1.Subject{Kind: "ServiceAccount", Name: "somebody", Namespace: sn.Namespace})
	for _, object := range []client.Object{deployment, service, certificate, binding, operand.ProgressConfigMap(sn)} {
		object.SetOwnerReferences(nil)
		if err := p.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	owner := operand.ProgressConfigMap(sn).OwnerReferences
	for _, object := range []client.Object{deployment, service, certificate, role, binding, &corev1.ConfigMap{ObjectMeta: operand.ProgressConfigMap(sn).ObjectMeta}} {
		if err := p.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatal(err)
		}
		adopted := object.DeepCopyObject().(client.Object)
		adopted.SetAnnotations(map[string]string{"a": "b"})
		for _, owners := range [][]metav1.OwnerReference{nil, owner} {
			adopted.SetOwnerReferences(owners)
			if err := p.operator.Patch(t.Context(), adopted.DeepCopyObject().(client.Object), client.MergeFrom(object), client.DryRunAll); err != nil {
				t.Errorf("%T is not adopted: %v", object, err)
			}
		}
	}
	changed := deployment.DeepCopy()
	changed.Spec.Template.Spec.Containers[1].Args = []string{"more"}
	if err := p.operator.Patch(t.Context(), changed, client.MergeFrom(deployment), client.DryRunAll); err == nil || !strings.Contains(err.Error(), "run no image") {
		t.Errorf("a stranger's container is changed: %v", err)
	}
}
