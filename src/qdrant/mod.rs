//! qdrant
