//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/hack/testenv"
)

// The account of an S3 server that only the pods of one test reach.
const (
	objectStoreKey    = "test-only-root"
	objectStoreSecret = "test-only-root-secret"
)

// objectStore starts an S3 server in a pod of the place, with the bucket backups, and creates the
// Secret notes-bucket. It returns the server's URL. The program and the objects are in a directory
// of the claim notes-backups.
func (p *place) objectStore(t testing.TB) string {
	t.Helper()
	program := os.Getenv(testenv.ObjectStoreVariable)
	if program == "" {
		t.Fatalf("%s is not set: run this test with `make test-e2e`", testenv.ObjectStoreVariable)
	}
	host := "objectstore." + p.namespace + ".svc"
	dir := filepath.Join(t.TempDir(), "s3")
	for _, name := range []string{"objects/backups", "attributes"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(name)), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	certificate := testenv.NewCertificate(t, dir, host)
	command(t, "", "cp", program, filepath.Join(dir, "versitygw"))
	volume := p.volume(t)
	command(t, "", "docker", "cp", dir, volume)
	node, path, _ := strings.Cut(volume, ":")
	command(t, "", "docker", "exec", node, "chown", "-R", "65532:65532", path+"/s3")
	files := func(file string) string { return "/s3/" + filepath.Base(file) }
	kubectl(t, "-n", p.namespace, "create", "secret", "generic", "notes-bucket", "--from-literal=access-key-id="+objectStoreKey,
		"--from-literal=secret-access-key="+objectStoreSecret, "--from-file=ca.crt="+certificate.CertFile)
	labels := map[string]string{"app": "objectstore"}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "objectstore", Labels: labels},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false), TerminationGracePeriodSeconds: new(int64(1)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), FSGroup: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name:  "versitygw",
				Image: kubectl(t, "-n", p.namespace, "get", "deployment", "notes", "-o", "jsonpath={.spec.template.spec.containers[0].image}"),
				Command: []string{"/s3/versitygw", "--port", ":8443", "--cert", files(certificate.CertFile), "--key", files(certificate.KeyFile), "--quiet",
					"posix", "--sidecar", "/s3/attributes", "/s3/objects"},
				Env: []corev1.EnvVar{{Name: "ROOT_ACCESS_KEY", Value: objectStoreKey}, {Name: "ROOT_SECRET_KEY", Value: objectStoreSecret}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8443)}}},
				VolumeMounts:   []corev1.VolumeMount{{Name: "s3", MountPath: "/s3", SubPath: "s3"}},
			}},
			Volumes: []corev1.Volume{{Name: "s3", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "notes-backups"},
			}}},
		},
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "objectstore"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromInt32(8443)}}},
	}
	for _, object := range []client.Object{pod, service} {
		p.cluster.create(t, object)
	}
	kubectl(t, "-n", p.namespace, "wait", "pod/objectstore", "--for=condition=Ready", "--timeout=1m")
	return "https://" + host
}
