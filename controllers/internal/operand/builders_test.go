package operand

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func environment() Environment {
	return Environment{
		Image: "registry.example.com/securenotes:1", PullPolicy: corev1.PullIfNotPresent,
		ClusterID: "11111111-1111-1111-1111-111111111111", DeploymentID: "22222222-2222-2222-2222-222222222222",
		CertificateSecret: CertificateSecretName("notes"),
		Connection: vaultadmin.Connection{
			Name: "default", Address: "https://vault.example.com:8200", CABundle: "-----BEGIN CERTIFICATE-----\n",
			AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", DatabaseMount: "database", Audience: "vault",
		},
	}
}

func embedded() *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{
		ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "demo", UID: "uid"},
		Spec: v1alpha1.SecureNotesSpec{
			TLS: v1alpha1.TLS{CertManager: &v1alpha1.CertManager{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}},
			Backup: &v1alpha1.BackupPolicy{
				Recipients:  []v1alpha1.AgeRecipient{recipient},
				Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}},
			},
		},
	}
}

// recipient is an age recipient whose identity nobody has.
var recipient = v1alpha1.AgeRecipient("age1" + strings.Repeat("q", 58))

func postgres() *v1alpha1.SecureNotes {
	sn := embedded()
	sn.Spec.Replicas = new(int32(3))
	sn.Spec.Hostnames = []string{"notes.example.com"}
	sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{
		URISecretRef:     v1alpha1.SecretKeyReference{Name: "database", Key: "address"},
		CASecretRef:      &v1alpha1.SecretKeyReference{Name: "database-ca", Key: "root.pem"},
		VaultCredentials: &v1alpha1.VaultCredentials{},
	}}
	sn.Spec.RateLimits = &v1alpha1.RateLimits{FailedLoginsPerMinute: new(int32(10)), RequestsPerMinute: new(int32(60)), Redis: &v1alpha1.RedisStore{
		URISecretRef: v1alpha1.SecretKeyReference{Name: "redis", Key: "uri"}, CASecretRef: &v1alpha1.SecretKeyReference{Name: "redis", Key: "ca"},
	}}
	sn.Spec.RateLimits.RegistrationsPerDay = new(int32(20))
	sn.Spec.Quotas = &v1alpha1.Quotas{Accounts: new(int32(30)), Notes: new(int32(40)), Bytes: "5Gi"}
	sn.Spec.TrustedProxies = []string{"10.0.0.0/8"}
	sn.Spec.Service = &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer, Annotations: map[string]string{"example.com/balancer": "internal"}}
	sn.Spec.CORS = &v1alpha1.CORS{AllowedOrigins: []string{"https://app.example.com"}}
	sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{Parallelism: new(int32(4)), MaxNotesPerSecond: new(int32(5000))}
	sn.Spec.PodTemplate = &v1alpha1.PodTemplate{
		Labels: map[string]string{"team": "notes", LabelInstance: "somebody-else"}, Annotations: map[string]string{"a": "b"},
		NodeSelector: map[string]string{"disk": "ssd"}, PriorityClassName: "high",
		ImagePullSecrets: []v1alpha1.LocalObjectReference{{Name: "pull"}},
	}
	sn.Spec.Backup = &v1alpha1.BackupPolicy{
		Recipients: []v1alpha1.AgeRecipient{recipient}, Escrow: &v1alpha1.BackupEscrow{Recipients: []v1alpha1.AgeRecipient{recipient}},
		Destination: v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStore{
			URL:                  "https://s3.example.com/backups/notes?region=eu-central-1",
			CredentialsSecretRef: &v1alpha1.LocalObjectReference{Name: "s3"},
			CASecretRef:          &v1alpha1.SecretKeyReference{Name: "s3-ca", Key: "root.pem"},
		}},
		Keep: &v1alpha1.BackupKeep{Count: new(int32(7)), Age: "720h"},
	}
	return sn
}

func TestCompromiseEndsSessions(t *testing.T) {
	t.Parallel()
	began := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	work := Work{Owner: &metav1.OwnerReference{}, Name: "notes-rotate-v7-1", ToVersion: 7, Strategy: v1alpha1.StrategyReencrypt, Shards: 1, EndSessions: &began}
	args := strings.Join(ReencryptJob(embedded(), environment(), work).Spec.Template.Spec.Containers[0].Args, " ")
	if !strings.HasSuffix(args, " --end-sessions 2026-01-02T03:04:05Z") {
		t.Errorf("arguments %s", args)
	}
}

// TestJobsLeaveOutTheJobControllersLabels checks that the template does not set them, because the
// API server rejects such a Job.
func TestJobsLeaveOutTheJobControllersLabels(t *testing.T) {
	t.Parallel()
	sn := postgres()
	sn.Spec.PodTemplate = &v1alpha1.PodTemplate{Labels: map[string]string{
		"team": "notes", "job-name": "x", "controller-uid": "x",
		batchv1.JobNameLabel: "x", batchv1.ControllerUidLabel: "x", batchv1.JobCompletionIndexAnnotation: "0",
	}}
	work := Work{Owner: &metav1.OwnerReference{}, Shards: 1}
	for _, job := range []*batchv1.Job{ReencryptJob(sn, environment(), work), VerifyJob(sn, environment(), work)} {
		want := Labels(sn, job.Labels[LabelComponent])
		want["team"] = "notes"
		if got := job.Spec.Template.Labels; !maps.Equal(got, want) {
			t.Errorf("labels %v, want %v", got, want)
		}
	}
	if len(sn.Spec.PodTemplate.Labels) != 6 {
		t.Errorf("the spec was changed: %v", sn.Spec.PodTemplate.Labels)
	}
}

// TestUrgentWorkIsNotHeldBack checks that urgent work has neither a rate limit nor a small CPU
// request, and that every Job has the tenant's own requests.
func TestUrgentWorkIsNotHeldBack(t *testing.T) {
	t.Parallel()
	asks := postgres()
	asks.Spec.Resources = &v1alpha1.Resources{Requests: map[string]v1alpha1.Quantity{"cpu": "2"}}
	for name, tc := range map[string]struct {
		sn           *v1alpha1.SecureNotes
		urgent       bool
		says, silent string
		cpu          string
	}{
		"routine":                 {sn: postgres(), says: "--max-notes-per-second=5000", silent: "--urgent", cpu: "10m"},
		"urgent":                  {sn: postgres(), urgent: true, says: "--urgent", silent: "--max-notes-per-second", cpu: "100m"},
		"routine, with requests":  {sn: asks, says: "--max-notes-per-second=5000", silent: "--urgent", cpu: "2"},
		"urgent, with requests":   {sn: asks, urgent: true, says: "--urgent", silent: "--max-notes-per-second", cpu: "2"},
		"routine without a limit": {sn: embedded(), says: "--strategy", silent: "--max-notes-per-second", cpu: "10m"},
	} {
		t.Run(name, func(t *testing.T) {
			work := Work{Owner: &metav1.OwnerReference{}, Shards: 1, Urgent: tc.urgent}
			container := ReencryptJob(tc.sn, environment(), work).Spec.Template.Spec.Containers[0]
			if args := strings.Join(container.Args, " "); !strings.Contains(args, tc.says) || strings.Contains(args, tc.silent) {
				t.Errorf("arguments %s", args)
			}
			if cpu := container.Resources.Requests.Cpu(); cpu.String() != tc.cpu {
				t.Errorf("it requests %s CPU, want %s", cpu, tc.cpu)
			}
			verify := VerifyJob(tc.sn, environment(), work).Spec.Template.Spec.Containers[0]
			if slices.Contains(verify.Args, "--urgent") != tc.urgent || verify.Resources.Requests.Cpu().String() != tc.cpu {
				t.Errorf("the verification: arguments %s, %s CPU", verify.Args, verify.Resources.Requests.Cpu())
			}
		})
	}
}

// TestGolden compares the objects of every builder with reviewed files.
func TestGolden(t *testing.T) {
	t.Parallel()
	env := environment()
	work := func(name string) Work {
		return Work{
			Owner: metav1.NewControllerRef(embedded(), v1alpha1.GroupVersion.WithKind("KeyRotation")),
			Name:  name, ToVersion: 7, Strategy: v1alpha1.StrategyReencrypt, Shards: 4,
		}
	}
	for name, sn := range map[string]*v1alpha1.SecureNotes{"embedded": embedded(), "postgres": postgres()} {
		env := env
		if name == "postgres" {
			// As after a Compromise.
			env.SessionKeys, env.SessionKeysDigest = "session-keys-5000000000001", strings.Repeat("5", 64)
			env.Pepper, env.PepperDigest = "pepper-aaaaaaaaaaaaaaaa", strings.Repeat("a", 64)
			env.DatabaseClaimed = true
		}
		cm, err := ConfigMap(sn, env)
		if err != nil {
			t.Fatal(err)
		}
		objects := []any{cm, Deployment(sn, env, ConfigHash(cm)), Service(sn), Certificate(sn, env), RotationRole(sn), RotationRoleBinding(sn),
			ProgressConfigMap(sn), ReencryptJob(sn, env, work("notes-rotate-v7-1")), VerifyJob(sn, env, work("notes-verify-v7-1"))}
		backup, job := backupOf(t, sn, env)
		objects = append(objects, backup, job)
		for _, account := range slices.Concat(ServiceAccounts(sn), BackupServiceAccounts(sn)) {
			objects = append(objects, account)
		}
		if metrics := MetricsService(sn); metrics != nil {
			objects = append(objects, metrics)
		}
		if claim := VolumeClaim(sn, env.DeploymentID); claim != nil {
			objects = append(objects, claim)
		}
		if budget := DisruptionBudget(sn); budget != nil {
			objects = append(objects, budget)
		}
		t.Run(name, func(t *testing.T) { golden(t, name+".yaml", objects) })
	}
}

// TestServiceKeepsClientAddresses checks that a Service that is reachable from outside preserves
// client addresses, unless the spec says otherwise. The API server rejects the field on a Service
// of type ClusterIP.
func TestServiceKeepsClientAddresses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		service *v1alpha1.Service
		want    corev1.ServiceExternalTrafficPolicy
	}{
		"unset":                    {service: nil, want: ""},
		"type unset":               {service: &v1alpha1.Service{}, want: ""},
		"ClusterIP":                {service: &v1alpha1.Service{Type: corev1.ServiceTypeClusterIP}, want: ""},
		"NodePort":                 {service: &v1alpha1.Service{Type: corev1.ServiceTypeNodePort}, want: "Local"},
		"LoadBalancer":             {service: &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer}, want: "Local"},
		"NodePort, Cluster":        {service: &v1alpha1.Service{Type: corev1.ServiceTypeNodePort, ExternalTrafficPolicy: "Cluster"}, want: "Cluster"},
		"LoadBalancer, Cluster":    {service: &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: "Cluster"}, want: "Cluster"},
		"LoadBalancer, said twice": {service: &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: "Local"}, want: "Local"},
	} {
		t.Run(name, func(t *testing.T) {
			sn := embedded()
			sn.Spec.Service = tc.service
			if got := Service(sn).Spec.ExternalTrafficPolicy; got != tc.want {
				t.Errorf("externalTrafficPolicy is %q, want %q", got, tc.want)
			}
		})
	}
}

func golden(t *testing.T, file string, objects []any) {
	t.Helper()
	var b strings.Builder
	for _, object := range objects {
		raw, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n")
		b.Write(raw)
	}
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s (go test -update rewrites it): %s", path, diff)
	}
}

// TestPodsAreRestricted checks every pod against the restricted Pod Security Standard, version
// 1.31.
func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	env := environment()
	owner := metav1.NewControllerRef(embedded(), v1alpha1.GroupVersion.WithKind("KeyRotation"))
	for name, sn := range map[string]*v1alpha1.SecureNotes{"embedded": embedded(), "postgres": postgres()} {
		for kind, spec := range map[string]corev1.PodSpec{
			"api":       Deployment(sn, env, "hash").Spec.Template.Spec,
			"reencrypt": ReencryptJob(sn, env, Work{Owner: owner, Shards: 1}).Spec.Template.Spec,
			"verify":    VerifyJob(sn, env, Work{Owner: owner}).Spec.Template.Spec,
			"backup":    BackupJob(sn, env, BackupWork{Owner: owner}).Spec.Template.Spec,
			"drill":     DrillJob(sn, env, "drill", resource.Quantity{}).Spec.Template.Spec,
		} {
			t.Run(name+" "+kind, func(t *testing.T) { restricted(t, spec, kind == "reencrypt") })
		}
	}
}

func restricted(t *testing.T, spec corev1.PodSpec, apiToken bool) {
	t.Helper()
	if !*spec.SecurityContext.RunAsNonRoot || *spec.SecurityContext.RunAsUser == 0 || spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod: %+v", spec.SecurityContext)
	}
	if *spec.AutomountServiceAccountToken != apiToken {
		t.Errorf("a token of the API server: %t, want %t", *spec.AutomountServiceAccountToken, apiToken)
	}
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		t.Error("it shares the host's namespaces")
	}
	for _, volume := range spec.Volumes {
		if volume.HostPath != nil {
			t.Errorf("volume %s is on the host", volume.Name)
		}
	}
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		s := c.SecurityContext
		if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("container %s: %+v", c.Name, s)
		}
		if len(c.Env) > 0 {
			t.Errorf("container %s has an environment: %v", c.Name, c.Env)
		}
	}
}

func TestConfigurationIsWhatTheServiceReads(t *testing.T) {
	t.Parallel()
	for name, sn := range map[string]*v1alpha1.SecureNotes{"embedded": embedded(), "postgres": postgres()} {
		t.Run(name, func(t *testing.T) {
			cm, err := ConfigMap(sn, environment())
			if err != nil {
				t.Fatal(err)
			}
			for file, role := range map[string]string{config.APIFile: config.RoleAPI, config.RotationFile: config.RoleRotation} {
				c, err := config.Parse([]byte(cm.Data[file]))
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				if c.Keys.Vault.Role != role || c.Keys.Vault.TransitKey != "sn-11111111-1111-1111-1111-111111111111.demo.notes" {
					t.Errorf("%s: %+v", file, c.Keys.Vault)
				}
			}
		})
	}
}

func TestConfigHash(t *testing.T) {
	t.Parallel()
	base, err := ConfigMap(postgres(), environment())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change  func(*v1alpha1.SecureNotes, *Environment)
		changes bool
	}{
		"a schedule":           {change: func(sn *v1alpha1.SecureNotes, _ *Environment) { sn.Spec.KeyRotation.Schedule = "@daily" }},
		"replicas":             {change: func(sn *v1alpha1.SecureNotes, _ *Environment) { sn.Spec.Replicas = new(int32(9)) }},
		"a hostname":           {change: func(sn *v1alpha1.SecureNotes, _ *Environment) { sn.Spec.Hostnames = nil }},
		"the life of sessions": {change: func(sn *v1alpha1.SecureNotes, _ *Environment) { sn.Spec.Auth = &v1alpha1.Auth{TokenTTL: "2h"} }, changes: true},
		"other session keys":   {change: func(_ *v1alpha1.SecureNotes, env *Environment) { env.SessionKeys = "session-keys-2" }, changes: true},
		"another pepper":       {change: func(_ *v1alpha1.SecureNotes, env *Environment) { env.PepperDigest = strings.Repeat("0", 64) }, changes: true},
		"a database in use":    {change: func(_ *v1alpha1.SecureNotes, env *Environment) { env.DatabaseClaimed = true }},
		"Vault's CA":           {change: func(_ *v1alpha1.SecureNotes, env *Environment) { env.Connection.CABundle = "x" }, changes: true},
	} {
		t.Run(name, func(t *testing.T) {
			sn, env := postgres(), environment()
			tc.change(sn, &env)
			cm, err := ConfigMap(sn, env)
			if err != nil {
				t.Fatal(err)
			}
			if changed := ConfigHash(cm) != ConfigHash(base); changed != tc.changes {
				t.Errorf("the hash changes: %t, want %t", changed, tc.changes)
			}
		})
	}
}

// TestRestarted checks that the API counts as restarted only if neither a pod nor the template has
// other session keys.
func TestRestarted(t *testing.T) {
	t.Parallel()
	env := environment()
	env.SessionKeys = "session-keys-2"
	renewed := Deployment(postgres(), env, "hash")
	pod := func(d *appsv1.Deployment, phase corev1.PodPhase) corev1.Pod {
		return corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Status: corev1.PodStatus{Phase: phase}}
	}
	before := Deployment(postgres(), environment(), "hash")
	unseen := renewed.DeepCopy()
	unseen.Generation = 2
	for name, tc := range map[string]struct {
		deployment *appsv1.Deployment
		pods       []corev1.Pod
		want       bool
	}{
		"all pods are new":                       {deployment: renewed, pods: []corev1.Pod{pod(renewed, corev1.PodRunning), pod(renewed, corev1.PodPending)}, want: true},
		"an old one still runs":                  {deployment: renewed, pods: []corev1.Pod{pod(renewed, corev1.PodRunning), pod(before, corev1.PodRunning)}, want: false},
		"an old one has ended":                   {deployment: renewed, pods: []corev1.Pod{pod(before, corev1.PodFailed), pod(before, corev1.PodSucceeded)}, want: true},
		"the Deployment would make old ones":     {deployment: before, want: false},
		"the Deployment's change is not at work": {deployment: unseen, pods: []corev1.Pod{pod(renewed, corev1.PodRunning)}, want: false},
		"there is no Deployment":                 {want: true},
		"there is none, but a pod of it":         {pods: []corev1.Pod{pod(before, corev1.PodRunning)}, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Restarted("session-keys-2", tc.deployment, tc.pods); got != tc.want {
				t.Errorf("restarted: %t", got)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	sn := embedded()
	if got := Replicas(sn); got != 1 {
		t.Errorf("embedded: %d replicas", got)
	}
	if got := ResolveRotation(sn); got.Strategy != v1alpha1.StrategyReencrypt || got.Parallelism != 1 || got.HistoryLimit != 5 || got.RetainOldVersionFor.Hours() != 720 {
		t.Errorf("rotation: %+v", got)
	}
	sn = postgres()
	sn.Spec.Replicas = nil
	if got := Replicas(sn); got != 2 {
		t.Errorf("postgres: %d replicas", got)
	}
	// A Job's name is also the value of a label: at most 63 characters.
	if name := ReencryptJobName(strings.Repeat("a", 40), 999999, 999); len(name) > 63 {
		t.Errorf("%s has %d characters", name, len(name))
	}
}

// TestCheckResources checks that what admission rejects is rejected here, too, quickly, and never
// built.
func TestCheckResources(t *testing.T) {
	t.Parallel()
	for text, ok := range map[v1alpha1.Quantity]bool{
		"250m": true, "0.5": true, "64Mi": true, "2": true, "999999999999.999Pi": true,
		"": false, "1e1.5": false, "1e99999999999999999999": false, "1000000000000000000001e9999999": false, "-1": false, "1 Gi": false, "much": false,
	} {
		t.Run(string(text), func(t *testing.T) {
			sn := embedded()
			sn.Spec.Resources = &v1alpha1.Resources{Limits: map[string]v1alpha1.Quantity{"cpu": text}}
			err := CheckResources(sn)
			if (err == nil) != ok {
				t.Fatalf("%v", err)
			}
			got := Deployment(sn, environment(), "hash").Spec.Template.Spec.Containers[0].Resources.Limits
			if limit := got.Cpu(); ok != (limit.Cmp(resource.MustParse("0")) > 0) {
				t.Errorf("the limit is %s", limit)
			}
			if !ok && (!strings.Contains(err.Error(), `spec.resources.limits of "cpu"`) || got.Memory().IsZero()) {
				t.Errorf("got %v and error %v, want memory, and an error that names the limit of cpu", got, err)
			}
		})
	}
}

// TestQuotaOfAnySize checks that a size that admission would reject counts as unset.
func TestQuotaOfAnySize(t *testing.T) {
	t.Parallel()
	for size, want := range map[string]int64{"": 512 << 20, "2Gi": 2 << 30, "1e99999999999999999999": 512 << 20, "-1Mi": 512 << 20} {
		sn := embedded()
		sn.Spec.Quotas = &v1alpha1.Quotas{Bytes: size}
		if got := resolveQuotas(sn).Bytes; got != want {
			t.Errorf("%q: %d bytes, want %d", size, got, want)
		}
	}
}

// TestClaimOfAnySize checks that a size that an older schema allowed counts as unset.
func TestClaimOfAnySize(t *testing.T) {
	t.Parallel()
	sn := embedded()
	sn.Spec.Database = &v1alpha1.Database{Embedded: &v1alpha1.Embedded{Storage: &v1alpha1.Storage{Size: "1e99999999999999999999"}}}
	if got := VolumeClaim(sn, "id").Spec.Resources.Requests.Storage().String(); got != defaultStorageSize {
		t.Errorf("the claim asks for %s", got)
	}
}
