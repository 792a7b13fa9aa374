//! Memory blocks: arenas, the descriptor ring, loans, attachments and epoch reclamation of Blockcast.
