//! System call filters: docker's profiles, compiled to the kernel's classic BPF.
