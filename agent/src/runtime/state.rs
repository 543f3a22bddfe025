//! What is known of containers under /run/agent, and what is cleaned there.
