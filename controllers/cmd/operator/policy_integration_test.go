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
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// TestAdmissionPolicies: the admission policies of the chart let the operator create what its
// builders return, and nothing else that its RBAC permits. All other tests run under the policies
// too.
func TestAdmissionPolicies(t *testing.T) {
	c, namespace := shared(t)
	c.namespace(t, "of-others")
	p := &policed{cluster: c, operator: c.asOperator(t), env: operand.Environment{
		Image: c.config.OperandImage, ClusterID: c.id, DeploymentID: "id", Connection: vaultadmin.Connection{
			Address: "https://vault.example.com", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", DatabaseMount: "database", Audience: "vault"},
	}}
	variants := map[string]*v1alpha1.SecureNotes{}
	for name, change := range map[string]func(*v1alpha1.SecureNotesSpec){
		"postgres": func(*v1alpha1.SecureNotesSpec) {},
		"embedded": func(s *v1alpha1.SecureNotesSpec) {
			s.Database, s.Hostnames = nil, []string{"notes.example.com", "localhost"}
			s.TLS.CertManager.CommonName, s.TLS.CertManager.ServiceNames = v1alpha1.CommonNameFirstHostname, v1alpha1.ServiceNamesExclude
			s.Backup = volumeBackup()
		},
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
				Annotations: map[string]string{"a": "b"}, PriorityClassName: "high", NodeSelector: map[string]string{"a": "b"},
				Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			}
			s.KeyRotation = &v1alpha1.KeyRotationPolicy{MaxNotesPerSecond: new(int32(10)), Strategy: v1alpha1.StrategyRewrap}
			s.Backup = bucketBackup()
		},
	} {
		sn := postgresNotes(namespace, name)
		sn.Spec.Suspend = new(true) // the operator that runs here has no part in it
		change(&sn.Spec)
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		// A RoleBinding needs an existing Role.
		if err := c.Create(t.Context(), operand.RotationRole(sn)); err != nil {
			t.Fatal(err)
		}
		variants[name] = sn
	}
	p.awaitPolicies(t, variants["postgres"])
	for name, sn := range variants {
		t.Run(name, func(t *testing.T) {
			for _, object := range p.createdObjects(t, sn) {
				if err := p.try(t.Context(), object); err != nil {
					t.Errorf("%T %s: %v", object, object.GetName(), err)
				}
			}
		})
	}
	t.Run("escapes of restores", func(t *testing.T) { p.testRestoreEscapes(t, variants["embedded"]) })
	t.Run("requests of restores", func(t *testing.T) { p.testRestoreRequests(t, variants["postgres"]) })
	t.Run("escapes of backups", func(t *testing.T) { p.testBackupEscapes(t, variants["embedded"]) })
	t.Run("escapes of drills", func(t *testing.T) { p.testDrillEscapes(t, variants["embedded"]) })
	t.Run("escapes", func(t *testing.T) { p.testEscapes(t, variants["postgres"]) })
	t.Run("others are free", func(t *testing.T) { p.testOthers(t, variants["postgres"]) })
	t.Run("requests", func(t *testing.T) { p.testRequests(t, variants["postgres"]) })
	t.Run("changes", func(t *testing.T) { p.testChanges(t, variants["embedded"]) })
	t.Run("what is not the operator's", func(t *testing.T) { p.testForeign(t, variants["postgres"]) })
}

// policed sends requests with the operator's rights, as dry runs.
type policed struct {
	*cluster
	operator client.Client
	env      operand.Environment
}

func (p *policed) try(ctx context.Context, object client.Object) error {
	// Admission runs before the check whether the object exists.
	return client.IgnoreAlreadyExists(p.operator.Create(ctx, object.DeepCopyObject().(client.Object), client.DryRunAll))
}

// createdObjects returns every object of a SecureNotes.
func (p *policed) createdObjects(t *testing.T, sn *v1alpha1.SecureNotes) []client.Object {
	t.Helper()
	env := p.env
	env.CertificateSecret = operand.CertificateSecretName(sn.Name)
	cm, err := operand.ConfigMap(sn, env)
	if err != nil {
		t.Fatal(err)
	}
	objects := []client.Object{cm, operand.ProgressConfigMap(sn), operand.Service(sn), operand.RotationRole(sn), operand.RotationRoleBinding(sn), p.deployment(sn)}
	if metrics := operand.MetricsService(sn); metrics != nil {
		objects = append(objects, metrics)
	}
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
	urgent := work(sn, "KeyRotation", operand.ReencryptJobName(sn.Name, 12, 3))
	urgent.ToVersion, urgent.Urgent, urgent.Strategy = 12, true, v1alpha1.StrategyRewrap
	plain := work(sn, "KeyRotation", operand.ReencryptJobName(sn.Name, 2, 2))
	plain.EndSessions = nil
	objects = append(objects, p.backupObjects(t, sn)...)
	objects = append(objects, p.restoreObjects(t, sn)...)
	objects = append(objects, p.drillObjects(t, sn)...)
	check := urgent
	check.Name = operand.VerifyJobName(sn.Name, 12, 3)
	return append(objects, p.job(sn), operand.ReencryptJob(sn, env, urgent), operand.ReencryptJob(sn, env, plain),
		operand.VerifyJob(sn, env, check), operand.VerifyJob(sn, env, work(sn, "KeyRotation", operand.VerifyJobName(sn.Name, 2, 1))),
		p.rotation(sn, sn.Name+"-req-0123456789"), p.rotation(sn, sn.Name+"-29000000"))
}

// rotation returns a KeyRotation as the operator creates it.
func (p *policed) rotation(sn *v1alpha1.SecureNotes, name string) *v1alpha1.KeyRotation {
	kr := rotationOf(sn, name)
	kr.Labels = operand.Labels(sn, operand.ComponentRotation)
	kr.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("SecureNotes"))}
	return kr
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
	env.SessionKeysDigest = "digest"
	return operand.Deployment(sn, env, "hash")
}

func (p *policed) job(sn *v1alpha1.SecureNotes) *batchv1.Job {
	return operand.ReencryptJob(sn, p.env, work(sn, "KeyRotation", operand.ReencryptJobName(sn.Name, 2, 1)))
}

// awaitPolicies waits until the API server enforces the policies.
func (p *policed) awaitPolicies(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	job := p.job(sn)
	job.Spec.Template.Spec.Containers[0].Image = "docker.io/busybox"
	elsewhere := operand.Service(sn)
	elsewhere.Namespace = metav1.NamespaceSystem
	for _, denied := range []client.Object{job, elsewhere, p.rotation(sn, "other")} {
		await(t, fmt.Sprintf("the policy for %T", denied), func() string {
			if err := p.try(context.Background(), denied); err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
				return fmt.Sprint("not denied: ", err)
			}
			return ""
		})
	}
}

// testEscapes tries what somebody who takes over the operator would.
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
	check := func(name func(string, int64, int32) string, change func(*[]string)) client.Object {
		j := operand.VerifyJob(sn, p.env, work(sn, "SecureNotes", name(sn.Name, 2, 1)))
		change(&j.Spec.Template.Spec.Containers[0].Args)
		return j
	}
	budget := func(change func(*policyv1.PodDisruptionBudgetSpec)) client.Object {
		b := operand.DisruptionBudget(sn)
		change(&b.Spec)
		return b
	}
	claim := func(change func(*corev1.PersistentVolumeClaimSpec)) client.Object {
		c := operand.VolumeClaim(embeddedNotes(sn), "id")
		change(&c.Spec)
		return c
	}
	rotation := func(change func(*v1alpha1.KeyRotation)) client.Object {
		kr := p.rotation(sn, sn.Name+"-29000000")
		change(kr)
		return kr
	}
	account := operand.ServiceAccounts(sn)[0]
	const (
		namespaces = "in its own namespace or in namespaces that start with kube-"
		names      = "only objects with its own names"
		owners     = "must have the label app.kubernetes.io/managed-by=securenotes-operator and a controller"
		image      = "must use the operand image"
		accounts   = "serviceAccountName must be NAME-securenotes-api"
		node       = "namespace of the node"
		restricted = "restricted Pod Security Standard"
		volumes    = "volumes may only be Secrets"
		mounts     = "must mount each volume where the program reads it"
		modes      = "can be executed"
		arguments  = "args must be those that the operator sets"
		apiToken   = "automountServiceAccountToken must be false"
		groups     = "may not have the group 0"
		place      = "may not have nodeName, runtimeClassName"
		hosts      = "may not change their host name or DNS settings"
		labels     = "pods must have the labels of their SecureNotes"
		server     = "must be server certificates"
		services   = "may not include the Service of another"
		budgets    = "must select the API pods only"
		claims     = "must be for new volumes"
		rotations  = "may create only KeyRotations"
	)
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
		"a Job of another name":                    {job(func(j *batchv1.Job) { j.Name = "backup-rotate-v2-1" }), names},
		"a service account of another name":        {changed(account.DeepCopy(), func(o client.Object) { o.SetName("admin") }), names},
		"a claim of another name":                  {changed(operand.VolumeClaim(embeddedNotes(sn), "id"), func(o client.Object) { o.SetName("postgres") }), names},
		"nobody's Deployment":                      {deployment(func(d *appsv1.Deployment) { d.OwnerReferences = nil }), owners},
		"a Deployment without label":               {deployment(func(d *appsv1.Deployment) { delete(d.Labels, operand.LabelManagedBy) }), owners},
		"another image":                            {container(func(c *corev1.Container) { c.Image = "docker.io/busybox" }), image},
		"very many containers": {pod(func(s *corev1.PodSpec) {
			for i := range 10 {
				another := s.Containers[0].DeepCopy()
				another.Name = fmt.Sprint("c", i)
				s.Containers = append(s.Containers, *another)
			}
		}), image},
		"another image of an init container": {pod(func(s *corev1.PodSpec) { s.InitContainers[0].Image = "docker.io/busybox" }), image},
		"another image of a Job":             {job(func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "docker.io/busybox" }), image},
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
		"root not excluded":             {pod(func(s *corev1.PodSpec) { s.SecurityContext.RunAsNonRoot = nil }), restricted},
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
		"rights of a cloud":                 {changed(account.DeepCopy(), func(o client.Object) { o.SetAnnotations(map[string]string{"eks.amazonaws.com/role-arn": "x"}) }), "may not add any to a ServiceAccount"},
		"a Role with more rights":           {changed(operand.RotationRole(sn), func(o client.Object) { o.(*rbacv1.Role).Rules[0].ResourceNames = nil }), "may grant only get and patch"},
		"a Role for Jobs": {changed(operand.RotationRole(sn), func(o client.Object) {
			o.(*rbacv1.Role).Rules = []rbacv1.PolicyRule{{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"create"}}}
		}), "may grant only get and patch"},
		"rights for somebody": {changed(operand.RotationRoleBinding(sn), func(o client.Object) { o.(*rbacv1.RoleBinding).Subjects[0].Name = "somebody" }), "may grant rights only to the ServiceAccount"},
		"rights for everybody": {changed(operand.RotationRoleBinding(sn), func(o client.Object) {
			o.(*rbacv1.RoleBinding).Subjects = []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:authenticated"}}
		}), "may grant rights only to the ServiceAccount"},
		"a Service with an address of others": {service(func(s *corev1.ServiceSpec) { s.ExternalIPs = []string{"192.0.2.1"} }), "must select the API pods, and may not have externalIPs"},
		"a Service by another name": {service(func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName, s.Selector = corev1.ServiceTypeExternalName, "example.com", nil
		}), "must select the API pods, and may not have externalIPs"},
		"a Service of other pods":       {service(func(s *corev1.ServiceSpec) { s.Selector = map[string]string{"app": "payments"} }), "must select the API pods, and may not have externalIPs"},
		"a Certificate over a Secret":   {certificate(func(s *certmanagerv1.CertificateSpec) { s.SecretName = "payments" }), "must use the Secret NAME-securenotes-certificate"},
		"a Certificate of an authority": {certificate(func(s *certmanagerv1.CertificateSpec) { s.IsCA = true }), server},
		"a Secret that is copied": {certificate(func(s *certmanagerv1.CertificateSpec) {
			s.SecretTemplate = &certmanagerv1.CertificateSecretTemplate{Annotations: map[string]string{"a": "b"}}
		}), "which copy the private key"},
		"a Certificate over the Secret of an earlier release": {certificate(func(s *certmanagerv1.CertificateSpec) {
			s.SecretName = operand.FormerCertificateSecretName(sn.Name)
		}), "must use the Secret NAME-securenotes-certificate"},
		"a Certificate of a client": {certificate(func(s *certmanagerv1.CertificateSpec) {
			s.Usages = append(s.Usages, certmanagerv1.UsageClientAuth)
		}), server},
		"a Certificate without usages": {certificate(func(s *certmanagerv1.CertificateSpec) { s.Usages = nil }), server},
		"a Certificate of administrators": {certificate(func(s *certmanagerv1.CertificateSpec) {
			s.Subject = &certmanagerv1.X509Subject{Organizations: []string{"system:masters"}}
		}), server},
		"a Certificate with a common name":      {certificate(func(s *certmanagerv1.CertificateSpec) { s.CommonName = "admin" }), server},
		"a Certificate of another Service":      {certificate(func(s *certmanagerv1.CertificateSpec) { s.DNSNames = append(s.DNSNames, "other.victim.svc") }), services},
		"a Certificate of a Service in short":   {certificate(func(s *certmanagerv1.CertificateSpec) { s.DNSNames = append(s.DNSNames, "other") }), services},
		"a Certificate of its Service in short": {certificate(func(s *certmanagerv1.CertificateSpec) { s.DNSNames = append(s.DNSNames, sn.Name) }), services},
		"a Certificate of the cluster's domain": {certificate(func(s *certmanagerv1.CertificateSpec) { s.DNSNames = append(s.DNSNames, "cluster.local") }), services},
		"a Certificate of a pod":                {certificate(func(s *certmanagerv1.CertificateSpec) { s.DNSNames = append(s.DNSNames, "10-0-0-1.victim.pod") }), services},
		"a Certificate of an address as a name": {certificate(func(s *certmanagerv1.CertificateSpec) { s.DNSNames = append(s.DNSNames, "192.0.2.1") }), services},
		"a Certificate with a literal subject":  {certificate(func(s *certmanagerv1.CertificateSpec) { s.LiteralSubject = "CN=admin" }), server},
		"a Certificate with an address of mail": {certificate(func(s *certmanagerv1.CertificateSpec) { s.EmailAddresses = []string{"a@example.com"} }), server},
		"a Certificate with a URI":              {certificate(func(s *certmanagerv1.CertificateSpec) { s.URIs = []string{"spiffe://example.com/x"} }), server},
		"a Certificate with an IP address":      {certificate(func(s *certmanagerv1.CertificateSpec) { s.IPAddresses = []string{"192.0.2.1"} }), server},
		"a Certificate with another name": {certificate(func(s *certmanagerv1.CertificateSpec) {
			s.OtherNames = []certmanagerv1.OtherName{{OID: "1.3.6.1.4.1.311.20.2.3", UTF8Value: "admin@example.com"}}
		}), server},
		"a ConfigMap over the program": {container(func(c *corev1.Container) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "config", MountPath: "/usr/local/bin"})
		}), mounts},
		"a file over the program": {container(func(c *corev1.Container) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "config", MountPath: "/usr/local/bin/securenotes", SubPath: "program"})
		}), mounts},
		"a Secret over the program": {pod(func(s *corev1.PodSpec) {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: "x", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "x"}}})
			s.InitContainers[0].VolumeMounts = append(s.InitContainers[0].VolumeMounts, corev1.VolumeMount{Name: "x", MountPath: "/usr/local/bin"})
		}), mounts},
		"a part of a volume":         {container(func(c *corev1.Container) { c.VolumeMounts[0].SubPath = "x" }), mounts},
		"a part of a volume by name": {container(func(c *corev1.Container) { c.VolumeMounts[0].SubPathExpr = "x" }), mounts},
		"another working directory":  {container(func(c *corev1.Container) { c.WorkingDir = "/etc/securenotes/config" }), mounts},
		"programs in a ConfigMap":    {pod(func(s *corev1.PodSpec) { s.Volumes[0].ConfigMap.DefaultMode = new(int32(0o555)) }), modes},
		"programs among tokens":      {pod(func(s *corev1.PodSpec) { s.Volumes[1].Projected.DefaultMode = new(int32(0o755)) }), modes},
		"a program in a Secret":      {pod(func(s *corev1.PodSpec) { s.Volumes[2].Secret.Items[0].Mode = new(int32(0o555)) }), modes},
		"a command of a probe": {container(func(c *corev1.Container) {
			c.LivenessProbe.ProbeHandler = corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/etc/securenotes/config/x"}}}
		}), "probes may not use exec"},
		"other arguments":                    {container(func(c *corev1.Container) { c.Args = []string{"operator"} }), arguments},
		"arguments of an init container":     {pod(func(s *corev1.PodSpec) { s.InitContainers[0].Args[0] = "serve" }), arguments},
		"another configuration":              {container(func(c *corev1.Container) { c.Args = append(c.Args, "--config", "/etc/securenotes/tls/x") }), arguments},
		"a Deployment that re-encrypts":      {container(func(c *corev1.Container) { c.Args = p.job(sn).Spec.Template.Spec.Containers[0].Args }), arguments},
		"a verification that shows help":     {check(operand.RetireJobName, func(args *[]string) { *args = []string{"--help"} }), arguments},
		"a verification that serves":         {check(operand.VerifyJobName, func(args *[]string) { (*args)[0] = "serve" }), arguments},
		"a verification of another version":  {check(operand.TrimJobName, func(args *[]string) { (*args)[4] = "1" }), arguments},
		"a verification of two versions":     {check(operand.RetireJobName, func(args *[]string) { *args = append(*args, "--to-version", "1") }), arguments},
		"a verification that does not look":  {check(operand.VerifyJobName, func(args *[]string) { *args = append(*args, "--help") }), arguments},
		"arguments in one":                   {check(operand.VerifyJobName, func(args *[]string) { *args = []string{strings.Join(*args, " ")} }), arguments},
		"a re-encryption to another version": {job(func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Args[4] = "1" }), arguments},
		"a re-encryption of one shard":       {job(func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = new(int32(1)), new(int32(1)) }), arguments},
		"an init container of a Job": {job(func(j *batchv1.Job) {
			s := &j.Spec.Template.Spec
			s.InitContainers = append(s.InitContainers, *s.Containers[0].DeepCopy())
			s.InitContainers[0].Name = "x"
		}), arguments},
		"the API server's token":             {pod(func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = new(true) }), apiToken},
		"the API server's token, by default": {pod(func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = nil }), apiToken},
		"a verification's token of the API server": {changed(operand.VerifyJob(sn, p.env, work(sn, "KeyRotation", operand.VerifyJobName(sn.Name, 2, 1))), func(o client.Object) {
			o.(*batchv1.Job).Spec.Template.Spec.AutomountServiceAccountToken = new(true)
		}), apiToken},
		"root's group":               {pod(func(s *corev1.PodSpec) { s.SecurityContext.RunAsGroup = new(int64(0)) }), groups},
		"files of root's group":      {pod(func(s *corev1.PodSpec) { s.SecurityContext.FSGroup = new(int64(0)) }), groups},
		"more groups":                {pod(func(s *corev1.PodSpec) { s.SecurityContext.SupplementalGroups = []int64{6} }), groups},
		"a container's group":        {container(func(c *corev1.Container) { c.SecurityContext.RunAsGroup = new(int64(0)) }), groups},
		"processes of one pod":       {pod(func(s *corev1.PodSpec) { s.ShareProcessNamespace = new(true) }), groups},
		"a node":                     {pod(func(s *corev1.PodSpec) { s.NodeName = "control-plane" }), place},
		"a runtime":                  {pod(func(s *corev1.PodSpec) { s.RuntimeClassName = new("weak") }), place},
		"a scheduler":                {pod(func(s *corev1.PodSpec) { s.SchedulerName = "x" }), place},
		"the users of the node":      {pod(func(s *corev1.PodSpec) { s.HostUsers = new(true) }), place},
		"the priority of Kubernetes": {pod(func(s *corev1.PodSpec) { s.PriorityClassName = "system-node-critical" }), place},
		"a device": {pod(func(s *corev1.PodSpec) {
			s.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: new("gpu")}}
		}), place},
		"a host name": {pod(func(s *corev1.PodSpec) { s.Hostname = "payments-0" }), hosts},
		"a domain":    {pod(func(s *corev1.PodSpec) { s.Subdomain = "payments" }), hosts},
		"addresses of hosts": {pod(func(s *corev1.PodSpec) {
			s.HostAliases = []corev1.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"vault"}}}
		}), hosts},
		"another name server": {pod(func(s *corev1.PodSpec) { s.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}} }), hosts},
		"the node's resolver": {pod(func(s *corev1.PodSpec) { s.DNSPolicy = corev1.DNSDefault }), hosts},
		"no AppArmor": {deployment(func(d *appsv1.Deployment) {
			d.Spec.Template.Annotations["container.apparmor.security.beta.kubernetes.io/api"] = "unconfined"
		}), restricted},
		"pods of another component": {deployment(func(d *appsv1.Deployment) {
			d.Spec.Selector.MatchLabels = map[string]string{"app": "payments"}
			d.Spec.Template.Labels = map[string]string{"app": "payments"}
		}), labels},
		"a selector of more pods": {deployment(func(d *appsv1.Deployment) {
			delete(d.Spec.Selector.MatchLabels, operand.LabelComponent)
		}), labels},
		"pods of another instance": {job(func(j *batchv1.Job) { j.Spec.Template.Labels[operand.LabelInstance] = "payments" }), labels},
		"a Job's pods that serve":  {job(func(j *batchv1.Job) { j.Spec.Template.Labels[operand.LabelComponent] = operand.ComponentAPI }), labels},
		"a Job of pods of others": {job(func(j *batchv1.Job) {
			j.Spec.ManualSelector, j.Spec.Selector = new(true), &metav1.LabelSelector{MatchLabels: map[string]string{"app": "payments"}}
			j.Spec.Template.Labels["app"] = "payments"
		}), labels},
		"a Service with a chosen address": {service(func(s *corev1.ServiceSpec) {
			s.Type, s.LoadBalancerIP = corev1.ServiceTypeLoadBalancer, "192.0.2.9"
		}), "may not request an address"},
		"metrics for the outside world": {service(func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort }), "metrics stay inside the cluster"},
		"a budget of every pod": {budget(func(s *policyv1.PodDisruptionBudgetSpec) {
			s.Selector, s.MaxUnavailable = &metav1.LabelSelector{}, new(intstr.FromInt32(0))
		}), budgets},
		"a budget of pods of others": {budget(func(s *policyv1.PodDisruptionBudgetSpec) {
			s.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}}
		}), budgets},
		"a copy of a volume": {claim(func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "postgres-0"}
		}), claims},
		"a copy of a volume, by reference": {claim(func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSourceRef = &corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "postgres-0"}
		}), claims},
		"a volume of others":                 {claim(func(s *corev1.PersistentVolumeClaimSpec) { s.VolumeName = "pv-of-others" }), claims},
		"any volume of others":               {claim(func(s *corev1.PersistentVolumeClaimSpec) { s.Selector = &metav1.LabelSelector{} }), claims},
		"a KeyRotation of reason Compromise": {rotation(func(kr *v1alpha1.KeyRotation) { kr.Spec.Reason = v1alpha1.RotationCompromise }), rotations},
		"a KeyRotation of another strategy":  {rotation(func(kr *v1alpha1.KeyRotation) { kr.Spec.Strategy = v1alpha1.StrategyRewrap }), rotations},
		"a KeyRotation of another name":      {rotation(func(kr *v1alpha1.KeyRotation) { kr.Name = "mine" }), rotations},
		"a KeyRotation without label":        {rotation(func(kr *v1alpha1.KeyRotation) { kr.Labels = nil }), rotations},
		"a KeyRotation of nobody":            {rotation(func(kr *v1alpha1.KeyRotation) { kr.OwnerReferences = nil }), rotations},
		"a KeyRotation that had ended": {rotation(func(kr *v1alpha1.KeyRotation) {
			kr.Annotations = map[string]string{v1alpha1.AnnotationEnded: kr.Name}
		}), rotations},
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.try(t.Context(), tc.object); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("not denied with %q: %v", tc.want, err)
			}
		})
	}
}

// testOthers: the policies restrict nobody else, in any namespace.
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

// testForeign: objects of others are neither changed nor deleted, and no SecureNotes requests what
// its user may not.
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
		"a Deployment is taken over":      {patch(taken, foreign), "may not change or delete an object of others"},
		"a service account is deleted":    {p.operator.Delete(t.Context(), account, client.DryRunAll), "only objects with its own names"},
		"a claim is deleted":              {p.operator.Delete(t.Context(), claim, client.DryRunAll), "may not change or delete an object of others"},
		"a SecureNotes is asked for more": {patch(asked, sn), "may not change the spec of a SecureNotes"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: not denied with %q: %v", name, tc.want, tc.err)
		}
	}
}

// testRestored: a restored object has the labels and no owner, and may have more than the operator
// creates. It is adopted as it is. What changes then must be what the operator creates.
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
	if err := p.operator.Patch(t.Context(), changed, client.MergeFrom(deployment), client.DryRunAll); err == nil || !strings.Contains(err.Error(), "must use the operand image") {
		t.Errorf("a stranger's container is changed: %v", err)
	}
}
