package operand

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// ServiceAccounts of the API and of rotation Jobs. Vault knows them apart by the ends of their names.
func ServiceAccounts(sn *v1alpha1.SecureNotes) []*corev1.ServiceAccount {
	return []*corev1.ServiceAccount{
		{ObjectMeta: meta(sn, APIServiceAccount(sn.Name), ComponentAPI), AutomountServiceAccountToken: new(false)},
		{ObjectMeta: meta(sn, RotationServiceAccount(sn.Name), ComponentRotation), AutomountServiceAccountToken: new(false)},
	}
}

// ProgressConfigMap that rotation Jobs report in. Its data is theirs; the operator owns only that it
// exists.
func ProgressConfigMap(sn *v1alpha1.SecureNotes) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: meta(sn, ProgressName(sn.Name), ComponentRotation)}
}

// RotationRole lets rotation Jobs write their progress, and nothing else.
func RotationRole(sn *v1alpha1.SecureNotes) *rbacv1.Role {
	return &rbacv1.Role{
		ObjectMeta: meta(sn, RotationServiceAccount(sn.Name), ComponentRotation),
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{""}, Resources: []string{"configmaps"},
			ResourceNames: []string{ProgressName(sn.Name)}, Verbs: []string{"get", "patch"},
		}},
	}
}

// RotationRoleBinding gives RotationRole to rotation Jobs.
func RotationRoleBinding(sn *v1alpha1.SecureNotes) *rbacv1.RoleBinding {
	name := RotationServiceAccount(sn.Name)
	return &rbacv1.RoleBinding{
		ObjectMeta: meta(sn, name, ComponentRotation),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: sn.Namespace}},
	}
}
